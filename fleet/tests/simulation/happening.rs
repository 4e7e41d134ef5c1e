//! What can happen to hosts and between them.

use tktrot_fleet::message::Message;

use crate::timeline::Millis;

/// Something that will happen.
pub enum Happening {
    Deliver {
        to: u16,
        from: u16,
        epoch: u32,
        sent: Millis,
        message: Message<()>,
    },
    Connect(u16, u16),
    Up {
        host: u16,
        peer: u16,
        epoch: u32,
    },
    Down {
        host: u16,
        peer: u16,
        epoch: u32,
    },
    Tick {
        host: u16,
        instance: u32,
    },
    /// Seals a ticket, now and then.
    Seal(u16),
    /// Seals a ticket when another key may begin.
    Switch(u16),
    /// Looks through everything.
    Inspect,
    /// The liar says something.
    Lie,
    Start(u16),
    Stop(u16),
    /// A trouble, and then the next one.
    Trouble,
    /// The hosts of this group are among the others again.
    Heal(u8),
    Unblock(u16, u16),
}

impl Happening {
    /// The host that it happens to first.
    pub fn place(&self) -> u16 {
        match self {
            Happening::Deliver { to: host, .. }
            | Happening::Connect(host, _)
            | Happening::Up { host, .. }
            | Happening::Down { host, .. }
            | Happening::Tick { host, .. }
            | Happening::Seal(host)
            | Happening::Switch(host)
            | Happening::Start(host)
            | Happening::Stop(host)
            | Happening::Unblock(host, _) => *host,
            Happening::Inspect | Happening::Lie | Happening::Trouble | Happening::Heal(_) => 0,
        }
    }
}
