//! What hosts tell of themselves, so that operators see how they differ: [`About`].

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::ifaddrs::getifaddrs;
use tktrot_fleet::wire::About;

/// The keys that a host makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// R.
    pub rotate_every: Duration,
    /// L.
    pub lifetime: Duration,
    /// Whether they are plain.
    pub plain: bool,
}

/// What a peer told of its host.
#[derive(Clone, Debug, PartialEq)]
pub struct Theirs {
    /// As it said it.
    pub about: About,
    /// By how many seconds its wall clock is ahead of this host's, or behind if that is negative. Nearer to
    /// zero than it may be: the message may have taken that long.
    pub ahead: f64,
}

impl Theirs {
    /// It was said so long ago, at most.
    pub fn heard(about: About, age: Duration) -> Theirs {
        let difference = (i128::from(about.wall) - i128::from(wall())) as f64 / 1e9;
        let ahead =
            if difference >= 0.0 { difference } else { (difference + age.as_secs_f64()).min(0.0) };
        Theirs { about, ahead }
    }

    /// What its keys are like.
    pub fn settings(&self) -> Settings {
        let About { rotate_every, lifetime, plain, .. } = self.about;
        Settings { rotate_every, lifetime, plain }
    }
}

/// What this node tells of its host, now.
pub fn own(settings: Settings) -> About {
    let Settings { rotate_every, lifetime, plain } = settings;
    let mut addresses = addresses();
    addresses.truncate(About::MAX_ADDRESSES);
    let release = env!("CARGO_PKG_VERSION").to_owned();
    About { release, rotate_every, lifetime, plain, wall: wall(), addresses }
}

/// The addresses of this host that others may know it by: without those that every host has.
pub fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let address = |socket: nix::sys::socket::SockaddrStorage| {
        let v4 = socket.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or(socket.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    let mut addresses: Vec<_> =
        interfaces.filter_map(|interface| interface.address.and_then(address)).collect();
    addresses.retain(|address| !address.is_loopback() && !address.is_unspecified());
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The wall clock, in nanoseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_message_may_have_taken_is_not_blamed_on_a_clock() {
        let settings = Settings {
            rotate_every: Duration::from_secs(1),
            lifetime: Duration::from_secs(2),
            plain: false,
        };
        let about = |shift: i64| {
            let mut about = own(settings);
            about.wall = about.wall.saturating_add_signed(shift * 1_000_000_000);
            about
        };
        let ahead = |shift, age| Theirs::heard(about(shift), Duration::from_secs(age)).ahead;
        assert!((3590.0..=3600.0).contains(&ahead(3600, 5)));
        assert_eq!(ahead(-30, 60), 0.0);
        assert!((-3600.0..=-3580.0).contains(&ahead(-3600, 10)));
        assert_eq!(Theirs::heard(about(0), Duration::from_secs(1)).settings(), settings);
    }
}
