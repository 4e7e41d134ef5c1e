//! The same for all: clients come back within one life of the server, over a rotation, a reload and a
//! restart, without the shim and with it; then many at once, while all that is done to it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use testbed::client::TlsVersion;
use testbed::environment::ring_status;
use testbed::journey::{Event, Journey};
use testbed::visitors::With;
use testbed::{Server, wait};

use crate::Result;
use crate::kind::{Asks, Kind, LIFETIME, ROTATE, Reload, Started};
use crate::visitor::{Rate, Tally, Visitor, Who};

/// For a new key. Reached only on a machine that hardly runs.
const LIMIT: Duration = Duration::from_secs(60);
/// So often does each client come back within one life.
const TIMES: u64 = 3;

/// What became of one client's visits.
#[derive(Debug)]
struct Course {
    who: Who,
    life: Rate,
    /// `None` without the shim.
    rotation: Option<Rate>,
    /// `None` where there is no reload.
    reload: Option<Rate>,
    restart: Rate,
    slipped: bool,
}

/// Journeys of a server that asks like this, side by side, for most of the time they wait.
pub fn journeys(kind: Kind, asks: &[Asks]) -> Result {
    side_by_side(asks, |asks| journey(kind, asks).map(drop))
}

fn side_by_side(all: &[Asks], one: impl Fn(Asks) -> Result + Sync) -> Result {
    thread::scope(|scope| {
        let one = &one;
        let each = |&asks| scope.spawn(move || one(asks).map_err(|e| format!("{asks:?}: {e}")));
        let tests: Vec<_> = all.iter().map(each).collect();
        tests.into_iter().try_for_each(|test| Ok(test.join().map_err(|_| "see above")??))
    })
}

/// Of visits with a session of before, those that were resumed.
#[derive(Debug)]
pub struct Compared {
    /// After a restart, without the shim.
    pub without: Rate,
    /// After a rotation, a reload and a restart, with it.
    pub with: Rate,
}

impl Compared {
    fn of(bare: &[Course], with: &[Course]) -> Compared {
        let all = with.iter().flat_map(|c| [c.rotation, c.reload, Some(c.restart)]).flatten();
        Compared { without: bare.iter().map(|c| c.restart).sum(), with: all.sum() }
    }
}

/// The journey, without the shim and with it.
pub fn journey(kind: Kind, asks: Asks) -> Result<Compared> {
    let bare = Trip::start(kind, asks, false)?.make()?.0;
    let (with, mut started) = Trip::start(kind, asks, true)?.make()?;
    for (bare, with) in bare.iter().zip(&with) {
        println!("{} {asks:?} {:?}", kind.ring, bare.who);
        println!("  without {:?}, {:?}, {:?}", bare.life, bare.reload, bare.restart);
        println!(
            "  with    {:?}, {:?}, {:?}, {:?}",
            with.life, with.rotation, with.reload, with.restart
        );
    }
    for (bare, with) in bare.iter().zip(&with) {
        assert_eq!(bare.who, with.who);
        let told = format!("{asks:?}: without {bare:?}, with {with:?}");
        // To the server it is the same client, whatever the handshake.
        assert!(!with.slipped || (kind.slips && bare.slipped), "another answer; {told}");
        assert!(with.life.of > 0 && with.life.resumed >= bare.life.resumed, "{told}");
        for rate in [with.rotation, with.reload].into_iter().flatten() {
            assert_eq!(rate, Rate { resumed: rate.of, of: 1 }, "{told}");
        }
        match kind.outlives {
            true => assert_eq!(with.restart, Rate { resumed: 1, of: 1 }, "{told}"),
            false => assert_eq!(with.restart, bare.restart, "{told}"),
        }
    }
    if asks == Asks::Nobody && kind.outlives {
        under_load(&mut started)?;
    }
    (kind.look)(&started)?;
    let ring = format!("{}.ring", kind.ring);
    let found = started.rings().read_dir()?.map(|entry| Ok(entry?.file_name()));
    assert_eq!(found.collect::<Result<Vec<_>>>()?, [&*ring], "the ring and nothing else");
    Ok(Compared::of(&bare, &with))
}

/// Visitors all along, over rotations, a reload and a restart: all must resume.
fn under_load(started: &mut Started) -> Result {
    let Kind { client, reload, deaf, .. } = started.kind;
    let journey = Journey {
        visitors: 3,
        handshakes: 60,
        keys: 1,
        speak: client,
        ..Journey::new(ROTATE, LIFETIME)
    };
    let reload = reload.map(|_| match deaf {
        true => Event::reload().alone(),
        false => Event::reload(),
    });
    journey.run(started, Vec::from_iter(reload))?;
    Ok(())
}

/// For servers to which a client that resumes is not the client that it was: whatever comes of its
/// handshakes, what it is answered is the same as in a full one, without the shim and with it.
pub fn answers_stay_the_same(kind: Kind, asks: &[Asks]) -> Result {
    side_by_side(asks, |asks| answers_are_the_same(kind, asks))
}

fn answers_are_the_same(kind: Kind, asks: Asks) -> Result {
    for shim in [false, true] {
        let mut trip = Trip::start(kind, asks, shim)?;
        let addr = trip.started.server.addr();
        for _ in 0..2 {
            for visitor in &mut trip.visitors {
                visitor.comes(addr, &mut trip.tally)?;
                for _ in 0..TIMES {
                    visitor.returns(addr, With::Newest, &mut trip.tally)?;
                }
                let who = visitor.who;
                assert!(!visitor.slipped, "shim: {shim}, {who:?}\n{}", trip.started.log());
            }
            trip.started.restart(None)?;
        }
        println!("{} {asks:?}, shim: {shim}: {:?}", kind.ring, trip.tally);
        if shim {
            assert_eq!(trip.started.tally()?, trip.tally + trip.started.scouted());
        }
    }
    Ok(())
}

struct Trip {
    started: Started,
    visitors: Vec<Visitor>,
    tally: Tally,
}

impl Trip {
    fn start(kind: Kind, asks: Asks, shim: bool) -> Result<Trip> {
        let started = kind.start(asks, shim)?;
        let visitors = Visitor::served(kind, asks, &started.certificate)?;
        Ok(Trip { started, visitors, tally: Tally::default() })
    }

    fn make(mut self) -> Result<(Vec<Course>, Started)> {
        let courses = self.travel().map_err(|error| {
            let shim = if self.started.has_shim() { "with" } else { "without" };
            format!("{shim} the shim: {error}\n{}", self.started.log())
        })?;
        Ok((courses, self.started))
    }

    fn travel(&mut self) -> Result<Vec<Course>> {
        let addr = self.started.server.addr();
        let mut keys = Vec::new();
        let mut life = vec![Rate::default(); self.visitors.len()];
        for (visitor, rate) in self.visitors.iter_mut().zip(&mut life) {
            let tickets = visitor.comes(addr, &mut self.tally)?;
            if tickets.is_empty() && self.started.has_shim() {
                return Err(format!(
                    "{:?}: no ticket; {:#}",
                    visitor.who,
                    ring_status(&self.started.rings())?
                )
                .into());
            }
            keys.extend(tickets.iter().map(|ticket| ticket.key_name()));
            for _ in 0..TIMES {
                if let Some(resumed) = visitor.returns(addr, With::Newest, &mut self.tally)? {
                    rate.resumed += u64::from(resumed);
                    rate.of += 1;
                }
            }
        }
        self.is_counted("within one life")?;

        let rotation = match self.started.has_shim() {
            true => {
                self.wait_for_a_key_beside(&keys)?;
                let rates = self.all_return()?;
                self.is_counted("over a rotation")?;
                Some(rates)
            }
            false => None,
        };

        let reload = match self.started.kind.reload {
            Some(reload) => {
                self.reload(reload)?;
                let rates = self.all_return()?;
                self.is_counted("over a reload")?;
                Some(rates)
            }
            None => None,
        };

        self.started.restart(None)?;
        let restart = self.all_return()?;
        self.is_counted("over a restart")?;

        let courses = self.visitors.iter().enumerate().map(|(index, visitor)| Course {
            who: visitor.who,
            life: life[index],
            rotation: rotation.as_ref().map(|rates| rates[index]),
            reload: reload.as_ref().map(|rates| rates[index]),
            restart: restart[index],
            slipped: visitor.slipped,
        });
        Ok(courses.collect())
    }

    fn reload(&mut self, reload: Reload) -> Result {
        match reload {
            Reload::Signal(..) => Ok(self.started.reload().ok_or("it has no reload")??),
            Reload::Words(words) => {
                let mut scout = self.scout()?.saying(&words(&self.started.site));
                scout.comes(self.started.server.addr(), &mut self.tally).map(drop)
            }
        }
    }

    /// Another client, that is served.
    fn scout(&self) -> Result<Visitor> {
        let who = Who { known: self.visitors[0].who.known, version: TlsVersion::V13 };
        Visitor::new(self.started.kind, who, &self.started.certificate)
    }

    /// Each comes back with what it got first.
    fn all_return(&mut self) -> Result<Vec<Rate>> {
        let addr = self.started.server.addr();
        let mut rates = Vec::new();
        for visitor in &mut self.visitors {
            let resumed = visitor.returns(addr, With::First, &mut self.tally)?;
            rates.push(match resumed {
                Some(resumed) => Rate { resumed: u64::from(resumed), of: 1 },
                None => Rate::default(),
            });
        }
        Ok(rates)
    }

    /// More visits, until a key encrypts that is none of these: all keys of the beginning are retired.
    fn wait_for_a_key_beside(&mut self, keys: &[[u8; 16]]) -> Result {
        let mut scout = self.scout()?;
        let started = &self.started;
        let tally = &mut self.tally;
        wait::until(LIMIT, "a new key", || {
            let tickets = match scout.comes(started.server.addr(), tally) {
                Ok(tickets) => tickets,
                Err(error) => return Some(Err(error)),
            };
            if tickets.is_empty() {
                return Some(Err("a client that is served gets no ticket".into()));
            }
            let is_new = tickets.iter().any(|ticket| !keys.contains(&ticket.key_name()));
            if !is_new {
                thread::sleep(Duration::from_millis(100));
            }
            is_new.then_some(Ok(()))
        })?
    }

    /// That the ring has counted what the clients saw: every ticket, and every one that was taken.
    fn is_counted(&self, when: &str) -> Result {
        if !self.started.has_shim() {
            return Ok(());
        }
        let counted = self.started.tally()?;
        let seen = self.tally + self.started.scouted();
        assert_eq!(counted, seen, "{when}: counted, seen");
        Ok(())
    }
}

/// A client without a certificate that comes with a ticket of a server that asked for none gets no
/// further than one that comes with nothing: `lax`, then a restart as a server for clients with
/// certificates.
pub fn strangers_stay_out(kind: Kind, lax: &[Asks]) -> Result {
    side_by_side(lax, |lax| strangers_stay_out_after(kind, lax))
}

fn strangers_stay_out_after(kind: Kind, lax: Asks) -> Result {
    let mut started = kind.start(lax, true)?;
    let addr = started.server.addr();
    let mut strangers = Vec::new();
    for version in TlsVersion::ALL {
        let who = Who { version, known: false };
        let mut stranger = Visitor::new(kind, who, &started.certificate)?;
        stranger.comes(addr, &mut Tally::default())?;
        assert!(stranger.holds());
        strangers.push(stranger);
    }
    started.restart(Some(Asks::Everybody))?;
    let known = Visitor::served(kind, Asks::Everybody, &started.certificate)?;
    for (stranger, known) in strangers.iter().zip(&known) {
        assert_eq!(stranger.who.version, known.who.version);
        let (full, with_ticket) =
            (stranger.tries(addr, With::Nothing), stranger.tries(addr, With::First));
        assert_eq!(with_ticket, full, "{:?}\n{}", stranger.who, started.log());
        let welcome = known.tries(addr, With::Nothing);
        assert_ne!(
            welcome,
            full,
            "{:?}: a certificate makes no difference\n{}",
            known.who,
            started.log()
        );
        // What is asked of everybody has been shown by now.
        assert_eq!(stranger.tries(addr, With::First), full, "{:?}, again", stranger.who);
    }
    Ok(())
}

impl Started {
    /// What clients should have seen, as its ring has counted it.
    fn tally(&self) -> Result<Tally> {
        let dir = self.rings();
        let ring = ring_status(&dir)?;
        let path = ring["path"].as_str().ok_or("no path")?;
        assert_eq!(Path::new(path), dir.join(format!("{}.ring", self.kind.ring)));
        let tickets = ring["counters"]["issued"].as_u64().ok_or("not how many were issued")?;
        let resumed = ring["resumed"].as_u64().ok_or("not how many were resumed")?;
        Ok(Tally { tickets, resumed })
    }
}
