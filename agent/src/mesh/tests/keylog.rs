//! The secrets of the connections of a test's thread, in NSS's format, in memory.

use std::cell::RefCell;

use openssl::ssl::SslContextBuilder;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Every context of a test build writes them here.
pub fn listen(context: &mut SslContextBuilder) {
    context.set_keylog_callback(|_, line| {
        LINES.with_borrow_mut(|lines| lines.push(line.to_owned()));
    });
}

/// Those of this thread so far.
pub fn lines() -> Vec<String> {
    LINES.with_borrow(Vec::clone)
}
