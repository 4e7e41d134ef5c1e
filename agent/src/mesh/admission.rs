//! Connections whose other end has not proved who it is: few at a time, and none keeps another one
//! out. When there are too many, the oldest one of whoever has most ends: a newcomer always gets
//! the moment it needs, unless hundreds come after it within that moment.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use super::link::Stop;

/// From all addresses together.
const MOST: usize = 192;
/// From one address. All nodes of a fleet may have the same one, on loopback or behind a NAT.
const MOST_EACH: usize = 128;

/// Why a connection ends here.
pub const EVICTED: &str = "too many connections have not proved who they are";

/// Those that there are, oldest first.
#[derive(Default)]
pub struct Admission {
    pending: RefCell<Vec<Pending>>,
}

struct Pending {
    source: IpAddr,
    stop: Rc<Stop>,
}

/// One of them: while this lives.
pub struct Admitted<'a> {
    admission: &'a Admission,
    /// Says that it has to end.
    pub stop: Rc<Stop>,
}

impl Admission {
    /// Admits one; another one may have to end.
    pub fn admit(&self, source: IpAddr) -> Admitted<'_> {
        let mut pending = self.pending.borrow_mut();
        let of_source = pending.iter().filter(|other| other.source == source).count();
        if of_source >= MOST_EACH {
            end_oldest(&mut pending, source);
        } else if pending.len() >= MOST {
            let source = who_has_most(&pending);
            end_oldest(&mut pending, source);
        }
        let stop = Rc::new(Stop::default());
        pending.push(Pending { source, stop: stop.clone() });
        Admitted { admission: self, stop }
    }
}

fn end_oldest(pending: &mut Vec<Pending>, source: IpAddr) {
    if let Some(place) = pending.iter().position(|other| other.source == source) {
        pending.remove(place).stop.say(EVICTED);
    }
}

/// The address with most connections; of several, the one with the oldest.
fn who_has_most(pending: &[Pending]) -> IpAddr {
    let mut counts = HashMap::new();
    pending.iter().for_each(|other| *counts.entry(other.source).or_insert(0) += 1);
    // max_by_key gives the last of equals.
    let most = pending.iter().rev().max_by_key(|other| counts[&other.source]);
    most.expect("there are too many, so there is one").source
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut pending = self.admission.pending.borrow_mut();
        pending.retain(|other| !Rc::ptr_eq(&other.stop, &self.stop));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: usize) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number as u32).into()
    }

    fn is_stopped(admitted: &Admitted) -> bool {
        !admitted
            .admission
            .pending
            .borrow()
            .iter()
            .any(|other| Rc::ptr_eq(&other.stop, &admitted.stop))
    }

    #[test]
    fn one_address_ends_its_own_ones() {
        let admission = Admission::default();
        let honest = admission.admit(address(1));
        let idle: Vec<_> = (0..1000).map(|_| admission.admit(address(2))).collect();
        assert!(!is_stopped(&honest));
        assert_eq!(idle.iter().filter(|idle| !is_stopped(idle)).count(), MOST_EACH);
        assert!(!is_stopped(idle.last().unwrap()), "the newest is there");
        drop(idle);
        assert_eq!(admission.pending.borrow().len(), 1, "who goes leaves room");
    }

    #[test]
    fn many_addresses_end_those_of_whoever_has_most() {
        let admission = Admission::default();
        let honest = admission.admit(address(0));
        let crowd: Vec<_> = (0..1000).map(|n| admission.admit(address(1 + n % 100))).collect();
        assert!(!is_stopped(&honest), "others have more");
        assert_eq!(admission.pending.borrow().len(), MOST);
        drop(crowd);
        let all: Vec<_> = (1000..3000).map(|n| admission.admit(address(n))).collect();
        assert_eq!(admission.pending.borrow().len(), MOST);
        assert!(is_stopped(&honest), "all have one, and it is the oldest");
        assert!(!is_stopped(all.last().unwrap()));
    }
}
