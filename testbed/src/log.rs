//! The lines that libtktrot writes among those of a server.

/// Our lines in what a server wrote, in order.
pub fn ours(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("tktrot[")).collect()
}
