//! Network namespaces without a name: a descriptor keeps each of them, so it is gone with the test,
//! however that ends.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic;
use std::process::{self, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};

/// The namespace of whichever thread opens it.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network of its own: interfaces, addresses, ports. It lasts as long as this, or longer if
/// processes run in it.
#[derive(Debug)]
pub struct Namespace {
    handle: OwnedFd,
}

impl Namespace {
    /// A new one, in which nothing but the loopback interface is there.
    pub fn new() -> Result<Namespace> {
        let make = || -> Result<OwnedFd> {
            // SAFETY: unshare(2) with this flag changes the network namespace of the calling
            // thread, which ends with this closure, and touches no memory.
            let made = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            ensure!(made == 0, "no network namespace: {}", io::Error::last_os_error());
            Ok(File::open(OWN)?.into())
        };
        let maker = thread::Builder::new().name("namespace".to_owned()).spawn(make)?;
        let handle = maker.join().expect("the thread does not panic")?;
        let namespace = Namespace { handle };
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// Calls `act` on a thread that is in the namespace. The sockets that it opens are there, and
    /// so are the processes that it starts, for good.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            self.enter().expect("root may enter a namespace of its own");
            act()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    }

    /// Moves the calling thread into the namespace. There is no way back: use a thread for it.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: setns(2) takes an open descriptor and an integer and touches no memory.
        let entered = unsafe { libc::setns(self.handle.as_raw_fd(), libc::CLONE_NEWNET) };
        if entered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The file by which `ip` finds it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.handle.as_raw_fd())
    }

    /// Runs commands of `ip`, in this order, in the namespace; the first that fails is the last.
    pub fn ip<L: AsRef<str> + Sync>(&self, lines: &[L]) -> Result<()> {
        let text = lines.iter().fold(String::new(), |text, line| text + line.as_ref() + "\n");
        let output = self.run(|| -> io::Result<_> {
            let mut command = Command::new("ip");
            command.args(["-batch", "-"]).stdin(Stdio::piped());
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let mut stdin = child.stdin.take().expect("it is piped");
            stdin.write_all(text.as_bytes())?;
            drop(stdin);
            child.wait_with_output()
        });
        let output = output.context("cannot run ip; `make deps` installs it (iproute2)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ip: {said}\nof\n{text}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::port;
    use crate::process::needs_root;

    #[test]
    fn what_listens_in_one_is_not_there_in_another() {
        needs_root("it makes network namespaces");
        let addr: SocketAddr = port::free().unwrap();
        let (one, other) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let listener = one.run(|| TcpListener::bind(addr)).unwrap();
        assert!(one.run(|| TcpStream::connect(addr)).is_ok());
        assert!(other.run(|| TcpStream::connect(addr)).is_err());
        assert!(TcpStream::connect(addr).is_err(), "the caller's thread is where it was");
        drop(listener);
    }

    #[test]
    fn a_panic_inside_is_one_outside() {
        needs_root("it makes network namespaces");
        let namespace = Namespace::new().unwrap();
        let panicked = panic::catch_unwind(|| namespace.run(|| panic!("inside")));
        assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"inside"));
    }
}
