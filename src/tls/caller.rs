//! Who called: the return address of an exported function, which tells which
//! object the caller is in. Rust has no word for it, so the function is two
//! instructions that add it as one more argument and go on.

/// The whole body of a naked function with `$arguments` (1 to 4) arguments of
/// one register each: goes on to `$target` with the return address as one
/// more argument.
#[cfg(target_arch = "x86_64")]
#[macro_export]
macro_rules! go_on_with_caller {
    (1, $target:path) => { $crate::go_on_with_caller!(@ "rsi", $target) };
    (2, $target:path) => { $crate::go_on_with_caller!(@ "rdx", $target) };
    (3, $target:path) => { $crate::go_on_with_caller!(@ "rcx", $target) };
    (4, $target:path) => { $crate::go_on_with_caller!(@ "r8", $target) };
    (@ $register:literal, $target:path) => {
        // System V AMD64 ABI: at entry the return address is on top of the stack.
        ::core::arch::naked_asm!(
            concat!("mov ", $register, ", [rsp]"),
            "jmp {}",
            sym $target
        )
    };
}

/// The whole body of a naked function with `$arguments` (1 to 4) arguments of
/// one register each: goes on to `$target` with the return address as one
/// more argument.
#[cfg(target_arch = "aarch64")]
#[macro_export]
macro_rules! go_on_with_caller {
    (1, $target:path) => { $crate::go_on_with_caller!(@ "x1", $target) };
    (2, $target:path) => { $crate::go_on_with_caller!(@ "x2", $target) };
    (3, $target:path) => { $crate::go_on_with_caller!(@ "x3", $target) };
    (4, $target:path) => { $crate::go_on_with_caller!(@ "x4", $target) };
    (@ $register:literal, $target:path) => {
        // AAPCS64: at entry the return address is in x30.
        ::core::arch::naked_asm!(
            concat!("mov ", $register, ", x30"),
            "b {}",
            sym $target
        )
    };
}
