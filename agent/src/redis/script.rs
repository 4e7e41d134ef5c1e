//! What is asked of Redis, each at one moment there: scripts, so that nobody sees half of a change,
//! and the names under which things are.

use std::time::Duration;

use anyhow::{Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd, from_redis_value, pipe};
use tktrot_fleet::redis::clock::RedisTime;
use tktrot_fleet::redis::event::Mark;
use tktrot_fleet::redis::stored::{Slot, Turn};

/// No ring has more keys at once; what is beyond was not written by an agent.
const MOST_KEYS: usize = 512;
/// The most records of revoked keys that are read at once.
const MOST_GRAVES: usize = 4096;

/// `KEYS`: index, mark, revoked. `ARGV`: what names of keys begin with, limits of keys and of
/// records, slots that are looked at though the index has lost them.
const LOOK: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000
local slots = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', now, 'LIMIT', 0, ARGV[2])
local seen, found = {}, {}
for i = 4, #ARGV do slots[#slots + 1] = ARGV[i] end
for _, slot in ipairs(slots) do
  local value = not seen[slot] and redis.call('GET', ARGV[1] .. slot)
  seen[slot] = true
  if value then found[#found + 1] = slot; found[#found + 1] = value end
end
local revoked = redis.call('ZREVRANGEBYSCORE', KEYS[3], '+inf', now, 'LIMIT', 0, ARGV[3])
return { time[1], time[2], redis.call('GET', KEYS[2]), found, revoked }";

/// `KEYS`: the key, index, mark. `ARGV`: value, life in ms, slot, end in ms since 1970, new mark,
/// its life, channel. The index lives as long as what it names.
const STORE: &str = "
local stored = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
local named = redis.call('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[3])
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. redis.call('TIME')[1] .. '000')
if stored or named == 1 then
  redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
  redis.call('PUBLISH', ARGV[7], 'changed')
end";

/// `KEYS`: revoked, index, mark. `ARGV`: what names of keys begin with, life of the records in ms,
/// new mark, its life, channel, how many records; end in ms and record of each; slots.
const BURY: &str = "
local records = tonumber(ARGV[6])
for i = 7, 5 + 2 * records, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. redis.call('TIME')[1] .. '000')
for i = 7 + 2 * records, #ARGV do
  redis.call('DEL', ARGV[1] .. ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
end
redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
redis.call('PUBLISH', ARGV[5], 'revoked')";

/// Writes what nobody reads, as what is read-only or full does not. `KEYS`: its name.
const TRY: &str = "return redis.call('SET', KEYS[1], '', 'PX', 1000)";

/// The names of what one ring has in Redis.
#[derive(Clone, Debug)]
pub struct Names {
    /// The channel, and what all other names begin with.
    ring: String,
    rotate_every: Duration,
}

/// A wrapped key on its way to Redis.
#[derive(Clone, Debug)]
pub struct Parcel {
    pub slot: Slot,
    /// The wrapped key.
    pub bytes: Vec<u8>,
    /// How long Redis keeps it.
    pub keep: Duration,
    /// The key's end.
    pub ends: RedisTime,
}

/// What was revoked, on its way to Redis.
#[derive(Clone, Debug)]
pub struct Burial {
    /// Records and their ends.
    pub records: Vec<(Vec<u8>, RedisTime)>,
    /// How long Redis keeps them.
    pub keep: Duration,
    /// Slots to delete.
    pub slots: Vec<Slot>,
}

/// All that a ring has in Redis.
#[derive(Debug)]
pub struct Found {
    /// Redis' time.
    pub time: RedisTime,
    /// The mark.
    pub mark: Option<Mark>,
    /// Wrapped keys.
    pub values: Vec<(Slot, Vec<u8>)>,
    /// Records of what was revoked.
    pub records: Vec<Vec<u8>>,
}

impl Names {
    /// Those of this ring, for a node with this R.
    ///
    /// They have a hash tag, so that a Redis Cluster keeps all of them on one node, where scripts find
    /// them: that of the prefix, or else the ring's name.
    pub fn new(prefix: &str, ring: &str, rotate_every: Duration) -> Names {
        let ring = match prefix.contains('{') {
            true => format!("{prefix}:{ring}"),
            false => format!("{prefix}:{{{ring}}}"),
        };
        Names { ring, rotate_every }
    }

    /// The channel on which changes are published.
    pub fn channel(&self) -> &str {
        &self.ring
    }

    /// The name of the mark, which is where all else is.
    pub fn state(&self) -> String {
        self.of("state")
    }

    fn of(&self, what: &str) -> String {
        format!("{}:{what}", self.ring)
    }

    /// What is written with every change, and for how long: this R counts as the fleet's as long as
    /// somebody makes keys with it.
    fn new_mark(&self) -> Result<(String, u64)> {
        let mut token = [0; 8];
        openssl::rand::rand_bytes(&mut token)?;
        let (every, token) = (self.rotate_every.as_nanos(), u64::from_be_bytes(token));
        Ok((format!("1 {every} {token:016x}"), millis(2 * self.rotate_every)))
    }

    /// Fails where keys cannot be stored: on a replica, without memory, in another part of a cluster.
    pub async fn try_writing(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        Ok(script(TRY, &[self.of("try")]).query_async(connection).await?)
    }

    /// Redis' time, and the mark.
    pub async fn poll(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(RedisTime, Option<Mark>)> {
        let mut questions = pipe();
        questions.cmd("TIME").cmd("GET").arg(self.state());
        let ((seconds, micros), mark): ((u64, u64), Option<Vec<u8>>) =
            questions.query_async(connection).await?;
        Ok((time(seconds, micros), mark.and_then(|mark| mark_of(&mark))))
    }

    /// Everything, and what is at these turns.
    pub async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        turns: &[Turn],
    ) -> Result<Found> {
        let mut look = script(LOOK, &[self.of("keys"), self.state(), self.of("revoked")]);
        look.arg(self.of("key:")).arg(MOST_KEYS).arg(MOST_GRAVES);
        for turn in turns {
            look.arg(Slot::At(*turn).to_string());
        }
        let answer: Vec<Value> = look.query_async(connection).await?;
        let Ok([seconds, micros, mark, values, records]) = <[Value; 5]>::try_from(answer) else {
            bail!("Redis' answer to EVAL has the wrong form");
        };
        let seconds: String = from_redis_value(seconds)?;
        let micros: String = from_redis_value(micros)?;
        let mark: Option<Vec<u8>> = from_redis_value(mark)?;
        let pairs: Vec<Vec<u8>> = from_redis_value(values)?;
        let (pairs, _) = pairs.as_chunks::<2>();
        let value = |[slot, value]: &[Vec<u8>; 2]| {
            Some((std::str::from_utf8(slot).ok()?.parse().ok()?, value.clone()))
        };
        Ok(Found {
            time: time(seconds.parse()?, micros.parse()?),
            mark: mark.and_then(|mark| mark_of(&mark)),
            values: pairs.iter().filter_map(value).collect(),
            records: from_redis_value(records)?,
        })
    }

    /// Stores each key whose slot is free. All are sent at once: there may be many, and Redis far away.
    pub async fn store(
        &self,
        connection: &mut MultiplexedConnection,
        parcels: &[Parcel],
    ) -> Result<()> {
        let mut stores = pipe();
        for parcel in parcels {
            stores.add_command(self.storing(parcel)?);
        }
        if parcels.is_empty() { Ok(()) } else { Ok(stores.exec_async(connection).await?) }
    }

    fn storing(&self, parcel: &Parcel) -> Result<Cmd> {
        let slot = parcel.slot.to_string();
        let keys = [self.of(&format!("key:{slot}")), self.of("keys"), self.state()];
        let (mark, life) = self.new_mark()?;
        let mut store = script(STORE, &keys);
        store.arg(&parcel.bytes).arg(millis(parcel.keep)).arg(slot);
        store.arg(parcel.ends.0 / 1_000_000).arg(mark).arg(life).arg(self.channel());
        Ok(store)
    }

    /// Tells what was revoked.
    pub async fn bury(
        &self,
        connection: &mut MultiplexedConnection,
        burial: &Burial,
    ) -> Result<()> {
        let (mark, life) = self.new_mark()?;
        let mut bury = script(BURY, &[self.of("revoked"), self.of("keys"), self.state()]);
        bury.arg(self.of("key:")).arg(millis(burial.keep)).arg(mark).arg(life);
        bury.arg(self.channel()).arg(burial.records.len());
        for (record, ends) in &burial.records {
            bury.arg(ends.0 / 1_000_000).arg(record);
        }
        for slot in &burial.slots {
            bury.arg(slot.to_string());
        }
        Ok(bury.query_async(connection).await?)
    }
}

fn script(text: &str, keys: &[String]) -> Cmd {
    let mut command = cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn time(seconds: u64, micros: u64) -> RedisTime {
    RedisTime(seconds.saturating_mul(1_000_000_000).saturating_add(micros * 1000))
}

fn mark_of(text: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(text).ok()?;
    let mut words = text.strip_prefix("1 ")?.split(' ');
    let rotate_every = Duration::from_nanos(words.next()?.parse().ok()?);
    let token = u64::from_str_radix(words.next()?, 16).ok()?;
    words.next().is_none().then_some(Mark { rotate_every, token })
}
