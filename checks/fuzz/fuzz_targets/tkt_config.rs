#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    fuzz_targets::tkt_config(bytes);
});
