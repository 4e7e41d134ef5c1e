//! The end of a connection, with a reason that is the first one said.

use std::cell::RefCell;

use tokio::sync::Notify;

/// Says it, and waits for it.
#[derive(Default)]
pub struct Stop {
    reason: RefCell<Option<String>>,
    said: Notify,
}

impl Stop {
    /// Says it; later ones are not heard.
    pub fn say(&self, reason: &str) {
        self.reason.borrow_mut().get_or_insert_with(|| reason.to_owned());
        self.said.notify_one();
    }

    /// Waits for it. Only one may wait.
    pub async fn heard(&self) -> String {
        loop {
            if let Some(reason) = &*self.reason.borrow() {
                return reason.clone();
            }
            self.said.notified().await;
        }
    }
}
