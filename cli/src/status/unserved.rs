//! What libtktrot could not serve, for each reason: how often, and what to do about it.
//!
//! The counts never go down, and a cause that was removed leaves them as they are. So they are an alarm
//! only while nothing at all was served; beside tickets that were issued they are a remark.

use super::alarms::Kind;
use super::reading::Reading;
use crate::check::configuration;

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    pub kind: Kind,
    /// What is so.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// All reasons that were met so far.
pub fn unserved(reading: &Reading) -> Vec<Unserved> {
    let counters = &reading.counters;
    let mut found = Vec::new();
    let mut add = |kind, number: u64, what: [&str; 2], remedy: String| {
        let [one, many] = what;
        match number {
            0 => {}
            1 => found.push(Unserved { kind, what: format!("1 {one}"), remedy }),
            number => found.push(Unserved { kind, what: format!("{number} {many}"), remedy }),
        }
    };
    add(
        Kind::TicketsOff,
        counters.tickets_off,
        [
            "connection had tickets switched off (SSL_OP_NO_TICKET): it got none of libtktrot's",
            "connections had tickets switched off (SSL_OP_NO_TICKET): they got none of libtktrot's",
        ],
        switch_on(reading),
    );
    add(
        Kind::EarlyData,
        counters.anti_replay,
        [
            "connection had early data on and OpenSSL's own replay protection: its TLS 1.3 tickets \
             are stateful, and not libtktrot's",
            "connections had early data on and OpenSSL's own replay protection: their TLS 1.3 \
             tickets are stateful, and not libtktrot's",
        ],
        "switch early data off; or, where something else keeps it from being replayed, set \
         SSL_OP_NO_ANTI_REPLAY"
            .into(),
    );
    add(
        Kind::QuicListener,
        counters.quic,
        [
            "QUIC listener is not served: libssl makes its connections itself, out of reach",
            "QUIC listeners are not served: libssl makes their connections itself, out of reach",
        ],
        "nothing helps yet: QUIC clients get tickets of libssl's own key, which ends with its \
         process"
            .into(),
    );
    add(
        Kind::OwnKeys,
        counters.left_alone,
        ["context keeps ticket keys of its own", "contexts keep ticket keys of their own"],
        "nothing, if TKTROT_TAKEOVER=no is meant; else the server's log says why".into(),
    );
    found
}

/// Names what is to be removed for those servers that are here.
fn switch_on(reading: &Reading) -> String {
    let mut told: Vec<String> = Vec::new();
    for user in reading.servers() {
        let Some(switch) = configuration::switch_of(&user.program) else { continue };
        let one = format!("remove {switch} from the configuration of {}", user.program);
        if !told.contains(&one) {
            told.push(one);
        }
    }
    if told.is_empty() {
        told.push("remove from the server's configuration what switches tickets off".into());
    }
    let check = "`tktrot check --pid PID` looks for it";
    format!("unless it is meant: {}; {check}", told.join(", "))
}
