//! Key names: the first 16 bytes of a ticket in the usual layout (RFC 5077, section 4).

use std::collections::BTreeMap;

use tktrot::secret::KeyName;

/// Name, IV, at least one block, and the shortest MAC that is in use.
const SHORTEST: usize = 16 + 16 + 16 + 20;

/// Where a ticket in the usual layout has its name and its IV.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    pub name: KeyName,
    iv: [u8; 16],
}

/// None for a ticket that is too short.
pub fn mark(ticket: &[u8]) -> Option<Mark> {
    if ticket.len() < SHORTEST {
        return None;
    }
    let name = KeyName(ticket[..16].try_into().ok()?);
    Some(Mark { name, iv: ticket[16..32].try_into().ok()? })
}

/// The names among these marks: what several tickets have in common, although they were encrypted
/// apart. Layouts without a name (an IV first, say) never repeat 16 bytes.
#[derive(Default)]
pub struct Names(BTreeMap<[u8; 16], Seen>);

struct Seen {
    first_iv: [u8; 16],
    on_two_tickets: bool,
}

impl Names {
    pub fn note(&mut self, mark: Mark) {
        let seen = self.0.entry(mark.name.0);
        let seen = seen.or_insert(Seen { first_iv: mark.iv, on_two_tickets: false });
        seen.on_two_tickets |= seen.first_iv != mark.iv;
    }

    pub fn has(&self, name: &KeyName) -> bool {
        self.0.get(&name.0).is_some_and(|seen| seen.on_two_tickets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(name: u8, iv: u8) -> Vec<u8> {
        [[name; 16], [iv; 16], [0; 16], [0; 16], [0; 16]].concat()
    }

    #[test]
    fn a_name_is_what_two_tickets_share() {
        let mut names = Names::default();
        let [a, b] = [1, 2].map(|name| KeyName([name; 16]));
        names.note(mark(&ticket(1, 1)).unwrap());
        assert!(!names.has(&a), "16 bytes seen once may be anything");
        // The same ticket once more tells nothing.
        names.note(mark(&ticket(1, 1)).unwrap());
        assert!(!names.has(&a));
        names.note(mark(&ticket(1, 2)).unwrap());
        names.note(mark(&ticket(2, 3)).unwrap());
        assert!(names.has(&a) && !names.has(&b));
    }

    #[test]
    fn what_is_too_short_has_no_name() {
        assert!(mark(&[0; SHORTEST - 1]).is_none());
        assert!(mark(&[0; SHORTEST]).is_some());
    }
}
