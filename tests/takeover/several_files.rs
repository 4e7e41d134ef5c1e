//! Two and three key files: the first encrypts, the others only decrypt. How an administrator
//! renews keys by hand, done once without the shim, once with it and once under a takeover.

use testbed::RingDir;
use testbed::client::{Client, Session, TlsVersion};

use crate::key_files::{KeyFiles, Sealer};
use crate::observation::{Observation, Record, Shim, newest};
use crate::{Result, takeovers};

/// The lists that follow each other; all have another first file than the one before.
const LISTS: [(&str, &[usize]); 3] =
    [("two files", &[1, 0]), ("three files", &[2, 1, 0]), ("the first key dropped", &[2, 1])];

/// What was seen, and the lines that told of a takeover until the restart, so over all reloads.
fn keys_in_turn(shim: Shim) -> Result<(Vec<Observation>, Vec<String>)> {
    let (key_files, ring) = (KeyFiles::new(4)?, RingDir::new()?);
    key_files.list(&[0])?;
    let mut nginx = shim.nginx(&ring)?.server(&key_files.include()).start()?;
    let addr = nginx.addr();
    let mut record = Record::new(&key_files);
    let clients = [Client::new(TlsVersion::V12)?, Client::new(TlsVersion::V13)?];

    // One of the first key for each list: a TLS 1.2 client gives up a session that was renewed.
    let mut of_first_key: Vec<Vec<Session>> = Vec::new();
    for client in &clients {
        let issue = |_| newest(&record.visit("one file", client, addr, None).ok()?);
        of_first_key.push((0..LISTS.len()).filter_map(issue).collect());
    }
    for (number, (list, files)) in LISTS.into_iter().enumerate() {
        key_files.list(files)?;
        nginx.reload_by_signal()?;
        for (client, sessions) in clients.iter().zip(&of_first_key) {
            let old = sessions.get(number).ok_or("no ticket of the first key")?;
            record.visit(&format!("{list}: first key"), client, addr, Some(old))?;
            let full = record.visit(&format!("{list}: anew"), client, addr, None)?;
            let again = format!("{list}: newest key");
            record.visit(&again, client, addr, newest(&full).as_ref())?;
        }
    }
    let mut last = Vec::new();
    for client in &clients {
        last.push(newest(&record.visit("before the restart", client, addr, None)?));
    }
    let lines = takeovers(&nginx);
    nginx.stop()?;
    nginx.start()?;
    for (client, session) in clients.iter().zip(&last) {
        record.visit("after the restart", client, addr, session.as_ref())?;
    }
    // The same names of files, another key in the first.
    key_files.replace(2, 3)?;
    nginx.reload()?;
    for (client, session) in clients.iter().zip(&last) {
        record.visit("another key in a file", client, addr, session.as_ref())?;
        let full = record.visit("another key in a file: anew", client, addr, None)?;
        record.visit("another key: again", client, addr, newest(&full).as_ref())?;
    }
    Ok((record.seen, lines))
}

fn of<'a>(seen: &'a [Observation], step: &'a str) -> Vec<&'a Observation> {
    let found: Vec<_> = seen.iter().filter(|seen| seen.step == step).collect();
    assert!(found.len() >= 2, "{step}: both versions");
    found
}

#[test]
fn without_takeover_two_and_three_files_do_what_they_do_without_the_shim() -> Result<()> {
    let (without, _) = keys_in_turn(Shim::None)?;
    // What nginx itself does, so that the comparison compares something.
    for (list, files) in LISTS {
        for old in of(&without, &format!("{list}: first key")) {
            let (encrypts, known) = (Sealer::File(files[0]), files.contains(&0));
            assert_eq!(old.resumed, known, "{old:?}");
            // A session of an older key is renewed: with TLS 1.2 the client drops it, see
            // `Session::is_withdrawn`.
            let renewed = old.withdrawn || old.sealers().next() == Some(encrypts);
            assert!(renewed, "{old:?}");
        }
        for anew in of(&without, &format!("{list}: anew")) {
            assert!(anew.sealers().all(|sealer| sealer == Sealer::File(files[0])), "{anew:?}");
        }
        for again in of(&without, &format!("{list}: newest key")) {
            assert!(again.resumed && !again.withdrawn, "{again:?}");
        }
    }
    assert!(of(&without, "after the restart").iter().all(|seen| seen.resumed));
    assert!(of(&without, "another key in a file").iter().all(|seen| !seen.resumed));
    for anew in of(&without, "another key in a file: anew") {
        assert!(anew.sealers().all(|sealer| sealer == Sealer::File(3)), "{anew:?}");
    }

    let (with, takeovers) = keys_in_turn(Shim::NoTakeover)?;
    assert_eq!(with, without);
    assert_eq!(takeovers, [""; 0]);
    Ok(())
}

#[test]
fn a_takeover_replaces_the_keys_of_all_files() -> Result<()> {
    let (seen, takeovers) = keys_in_turn(Shim::Takeover)?;
    let ours = |seen: &Observation| seen.sealers().all(|sealer| sealer == Sealer::NoFile);
    assert!(seen.iter().all(ours), "{seen:#?}");
    for (list, _) in LISTS {
        // Whatever the files hold meanwhile.
        for old in of(&seen, &format!("{list}: first key")) {
            assert!(old.resumed && !old.withdrawn, "{old:?}");
        }
    }
    for step in ["after the restart", "another key in a file", "another key: again"] {
        assert!(of(&seen, step).iter().all(|seen| seen.resumed), "{step}");
    }
    assert_eq!(takeovers.len(), 1, "{takeovers:#?}");
    Ok(())
}
