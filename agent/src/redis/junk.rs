//! What Redis has under the ring's name and no agent wrote, in words for who looks after it. Agents use
//! what else is there, and delete nothing of it: it is not theirs.

use tktrot_fleet::redis::event::Look;
use tktrot_fleet::redis::stored::Flaw;

use super::script::{Junk, Names};

const WHOSE: &str = "something else than an agent of this fleet wrote it. Change who may write there, \
                     and delete it";

/// A sentence or two for each name, of what was found in a look at all that there is. So many records of
/// what was revoked were read.
pub fn complaints<S>(names: &Names, junk: &Junk, records: usize, look: &Look<S>) -> Vec<String> {
    let (revoked, state, groups) = (names.revoked(), names.state(), names.groups());
    let mut complaints = Vec::new();
    for name in &junk.wrong {
        if *name == state {
            complaints.push(format!(
                "{name} in Redis had another type or size than agents give it, and was replaced. If \
                 this goes on, something else than an agent writes there: change who may"
            ));
            continue;
        }
        let follows = match name {
            name if *name == revoked => "the hosts cannot tell each other which keys were revoked",
            name if *name == groups => "hosts with another rotate or another secret are not seen",
            _ => "hosts that join may not find all keys",
        };
        complaints.push(format!(
            "{name} in Redis has another type or size than agents give it, so that {follows}: \
             {WHOSE} (redis-cli DEL '{name}'): agents write it anew"
        ));
    }
    let forged = records - look.graves.len();
    if junk.others + forged > 0 {
        complaints.push(format!(
            "{revoked} in Redis has {} records of revoked keys that are none, are more than a \
             host reads, or were made with a secret that this host does not have; they are \
             ignored, and where there are thousands of them, hosts may not find those of the \
             fleet. If all hosts have the same secrets, \
             {WHOSE} (redis-cli DEL '{revoked}'): agents put back what they know",
            junk.others + forged
        ));
    }
    let no_keys = look.keys.iter().filter(|(_, key)| matches!(key, Err(Flaw::NoKey)));
    let no_keys: Vec<_> = no_keys.map(|(slot, _)| format!("{}{slot}", names.keys())).collect();
    if let Some(first) = no_keys.first() {
        complaints.push(format!(
            "{first} in Redis{} is not a wrapped key, and another turn is used: {WHOSE} (redis-cli \
             DEL '{first}')",
            match no_keys.len() {
                1 => String::new(),
                several => format!(", one of {several} like it,"),
            }
        ));
    }
    complaints
}
