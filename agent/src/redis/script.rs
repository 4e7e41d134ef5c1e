//! What is asked of Redis, each at one moment there: scripts, so that nobody sees half of a change,
//! and the names under which things are.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, bail};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value, cmd, from_redis_value, pipe};
use tktrot_fleet::redis::clock::RedisTime;
use tktrot_fleet::redis::event::Mark;
use tktrot_fleet::redis::stored::Slot;
use tktrot_fleet::wrap;

use super::groups::{self, Group};

/// No ring has more keys at once; what is beyond was not written by an agent.
const MOST_KEYS: usize = 512;
/// The most records of revoked keys that are read at once.
const MOST_GRAVES: usize = 4096;
/// So much more is looked through for them, among what else may be there.
const AMONG: usize = 4;
/// A mark is shorter.
const MARK: usize = 64;
/// So is a group.
const GROUP: usize = 64;
/// No fleet is in so many groups.
const MOST_GROUPS: usize = 16;

/// A command, or nil where something of another type is under the name: an agent did not write that.
/// Whatever else is wrong ends the script.
const ATTEMPT: &str = "
local function attempt(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if not string.find(answer.err, 'WRONGTYPE') then redis.call(...) end
end";

/// A list that was written lives as long as what is in it, of which what is over goes.
const TIDY: &str = "
local function tidy(list, life)
  if redis.call('PTTL', list) < tonumber(life) then redis.call('PEXPIRE', list, life) end
  redis.call('ZREMRANGEBYSCORE', list, '-inf', '(' .. redis.call('TIME')[1] .. '000')
end";

/// `KEYS`: mark, groups. `ARGV`: sizes of a mark and of a group, own group, for how long it is written and
/// for how long that is at most, both in ms, how many groups are read; what is too long is not passed on.
/// A group is in the list until the moment that it has there. If that is near, it is written anew. Where
/// it cannot be, all else goes on.
const POLL: &str = "
local mark = redis.pcall('GET', KEYS[1])
if type(mark) ~= 'string' or #mark > tonumber(ARGV[1]) then mark = '' end
local time = redis.call('TIME')
local now, life = time[1] * 1000, tonumber(ARGV[4])
local list = redis.pcall('ZREVRANGEBYSCORE', KEYS[2], now + 1000 + ARGV[5], now, 'WITHSCORES', 'LIMIT', 0, ARGV[6])
local wrong = list.err and string.find(list.err, 'WRONGTYPE') and 1 or 0
local groups, left = {}, 0
for i = 1, #list, 2 do
  if #list[i] <= tonumber(ARGV[2]) then groups[#groups + 1] = list[i] end
  if list[i] == ARGV[3] then left = list[i + 1] - now end
end
if left < life / 2 and not list.err then
  redis.pcall('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. now)
  redis.pcall('ZADD', KEYS[2], now + life, ARGV[3])
  redis.pcall('PEXPIRE', KEYS[2], ARGV[5])
end
return { time[1], time[2], mark, groups, wrong }";

/// `KEYS`: index, mark, revoked. `ARGV`: what names of keys begin with, limits of keys and of
/// records, how much more is looked through, sizes of a wrapped key, of a record and of a mark, new
/// mark, its life, slots that are looked at whatever the index says. A mark that is none is replaced: it
/// is written anew with every change anyway. Where the index is of no use, further turns of a period are
/// tried one after the other.
const LOOK: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000
local prefix, keys, records = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local size, record, most = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, found, graves, others, wrong = {}, {}, {}, 0, {}
local function take(slot)
  if seen[slot] == nil and #found < 2 * keys then
    local value = attempt('GET', prefix .. slot)
    seen[slot] = value ~= false
    if value == nil or value and #value > size then value = '' end
    if value then found[#found + 1] = slot; found[#found + 1] = value end
  end
  return seen[slot]
end
local index = attempt('ZREVRANGEBYSCORE', KEYS[1], '+inf', now, 'LIMIT', 0, keys * ARGV[4])
if not index then index = {}; wrong[#wrong + 1] = 'keys' end
local usable = #wrong == 0 and #index < keys * ARGV[4]
for i = 10, #ARGV do
  local number = take(ARGV[i]) and not usable and not string.find(ARGV[i], ':') and 1
  while number and number < 10 do
    number = take(ARGV[i] .. ':' .. number) and number + 1
  end
end
for _, slot in ipairs(index) do
  if string.find(slot, '^%d+$') or string.find(slot, '^%d+:%d+$')
    or string.find(slot, '^kept:%x+$') then take(slot) end
end
local all = attempt('ZREVRANGEBYSCORE', KEYS[3], '+inf', now, 'LIMIT', 0, records * ARGV[4])
if not all then all = {}; wrong[#wrong + 1] = 'revoked' end
for _, one in ipairs(all) do
  if #one == record and #graves < records then graves[#graves + 1] = one else others = others + 1 end
end
local mark = attempt('GET', KEYS[2])
if mark == nil or mark and #mark > most then
  redis.call('SET', KEYS[2], ARGV[8], 'PX', ARGV[9])
  mark = ARGV[8]
  wrong[#wrong + 1] = 'state'
end
return { time[1], time[2], mark, found, graves, others, wrong }";

/// `KEYS`: the key, index, mark. `ARGV`: value, life in ms, slot, end in ms since 1970, new mark,
/// its life, channel.
const STORE: &str = "
local stored = redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
local named = attempt('ZADD', KEYS[2], 'NX', ARGV[4], ARGV[3])
if named then tidy(KEYS[2], ARGV[2]) end
if stored or named == 1 then
  redis.call('SET', KEYS[3], ARGV[5], 'PX', ARGV[6])
  redis.call('PUBLISH', ARGV[7], 'changed')
end";

/// `KEYS`: revoked, index, mark. `ARGV`: what names of keys begin with, life of the records in ms,
/// new mark, its life, channel, how many records; end in ms and record of each; slots. Others are told
/// only what was not there.
const BURY: &str = "
local records, news = tonumber(ARGV[6]), 0
local is_list = true
for i = 7, 5 + 2 * records, 2 do
  local added = is_list and attempt('ZADD', KEYS[1], 'CH', ARGV[i], ARGV[i + 1])
  is_list = added and true
  news = news + (added or 0)
end
if is_list then tidy(KEYS[1], ARGV[2]) end
for i = 7 + 2 * records, #ARGV do
  news = news + redis.call('DEL', ARGV[1] .. ARGV[i])
  attempt('ZREM', KEYS[2], ARGV[i])
end
if news > 0 then
  redis.call('SET', KEYS[3], ARGV[3], 'PX', ARGV[4])
  redis.call('PUBLISH', ARGV[5], 'revoked')
end";

/// Writes what nobody reads, as what is read-only or full does not. `KEYS`: its name.
const TRY: &str = "return redis.call('SET', KEYS[1], '', 'PX', 1000)";

/// The names of what one ring has in Redis.
#[derive(Clone, Debug)]
pub struct Names {
    /// The channel, and what all other names begin with.
    ring: String,
    group: Group,
}

/// What a poll tells.
#[derive(Debug)]
pub struct Polled {
    /// Redis' time.
    pub time: RedisTime,
    /// The mark.
    pub mark: Option<Mark>,
    /// The groups of hosts that use the ring's names.
    pub groups: HashSet<Group>,
    /// Something else is where these are listed.
    pub is_junk: bool,
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
    /// What is there that no agent wrote.
    pub junk: Junk,
}

/// What is under the names of a ring and was not written by an agent, as far as its form tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Junk {
    /// These names have something of another type, or something too large.
    pub wrong: Vec<String>,
    /// So much among the records of what was revoked is none, or is beyond what is read.
    pub others: usize,
}

impl Names {
    /// Those of this ring, for a node of this group.
    ///
    /// They have a hash tag, so that a Redis Cluster keeps all of them on one node, where scripts find
    /// them: that of the prefix, or else the ring's name.
    pub fn new(prefix: &str, ring: &str, group: Group) -> Names {
        let ring = match prefix.contains('{') {
            true => format!("{prefix}:{ring}"),
            false => format!("{prefix}:{{{ring}}}"),
        };
        Names { ring, group }
    }

    /// The channel on which changes are published.
    pub fn channel(&self) -> &str {
        &self.ring
    }

    /// The name of the mark, which is where all else is.
    pub fn state(&self) -> String {
        self.of("state")
    }

    /// The name of the list of what was revoked.
    pub fn revoked(&self) -> String {
        self.of("revoked")
    }

    /// The name of the list of groups.
    pub fn groups(&self) -> String {
        self.of("groups")
    }

    /// What the names of keys begin with.
    pub fn keys(&self) -> String {
        self.of("key:")
    }

    fn of(&self, what: &str) -> String {
        format!("{}:{what}", self.ring)
    }

    /// What is written with every change, and for how long.
    fn new_mark(&self) -> Result<(String, u64)> {
        let mut token = [0; 8];
        openssl::rand::rand_bytes(&mut token)?;
        let token = u64::from_be_bytes(token);
        Ok((format!("2 {token:016x}"), millis(2 * self.group.rotate_every)))
    }

    /// Fails where keys cannot be stored: on a replica, without memory, in another part of a cluster.
    pub async fn try_writing(&self, connection: &mut MultiplexedConnection) -> Result<()> {
        Ok(script(TRY, &[self.of("try")]).query_async(connection).await?)
    }

    /// Redis' time, the mark, and who is there; says for so long that hosts of this group are.
    pub async fn poll(
        &self,
        connection: &mut MultiplexedConnection,
        life: Duration,
    ) -> Result<Polled> {
        let mut poll = script(POLL, &[self.state(), self.groups()]);
        poll.arg(MARK).arg(GROUP).arg(self.group.to_string());
        poll.arg(millis(life)).arg(millis(groups::LONGEST)).arg(MOST_GROUPS);
        let (seconds, micros, mark, groups, junk): (String, String, Vec<u8>, Vec<Vec<u8>>, u8) =
            poll.query_async(connection).await?;
        let group = |text: &Vec<u8>| std::str::from_utf8(text).ok()?.parse().ok();
        Ok(Polled {
            time: time(seconds.parse()?, micros.parse()?),
            mark: mark_of(&mark),
            groups: groups.iter().filter_map(group).collect(),
            is_junk: junk > 0,
        })
    }

    /// Everything, and what is in these slots.
    pub async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        slots: &[Slot],
    ) -> Result<Found> {
        let keys = [self.of("keys"), self.state(), self.revoked()];
        let mut look = script(&[ATTEMPT, LOOK].concat(), &keys);
        look.arg(self.keys()).arg(MOST_KEYS).arg(MOST_GRAVES).arg(AMONG);
        let (mark, life) = self.new_mark()?;
        look.arg(wrap::SIZE).arg(wrap::GRAVE).arg(MARK).arg(mark).arg(life);
        for slot in slots {
            look.arg(slot.to_string());
        }
        let answer: Vec<Value> = look.query_async(connection).await?;
        let Ok([seconds, micros, mark, values, records, others, wrong]) =
            <[Value; 7]>::try_from(answer)
        else {
            bail!("Redis' answer to EVAL has the wrong form");
        };
        let seconds: String = from_redis_value(seconds)?;
        let micros: String = from_redis_value(micros)?;
        let mark: Option<Vec<u8>> = from_redis_value(mark)?;
        let pairs: Vec<Vec<u8>> = from_redis_value(values)?;
        let (pairs, _) = pairs.as_chunks::<2>();
        let wrong: Vec<String> = from_redis_value(wrong)?;
        let wrong = wrong.iter().map(|what| self.of(what)).collect();
        let value = |[slot, value]: &[Vec<u8>; 2]| {
            Some((std::str::from_utf8(slot).ok()?.parse().ok()?, value.clone()))
        };
        Ok(Found {
            time: time(seconds.parse()?, micros.parse()?),
            mark: mark.and_then(|mark| mark_of(&mark)),
            values: pairs.iter().filter_map(value).collect(),
            records: from_redis_value(records)?,
            junk: Junk { wrong, others: from_redis_value(others)? },
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
        let mut store = script(&[ATTEMPT, TIDY, STORE].concat(), &keys);
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
        let mut bury = script(
            &[ATTEMPT, TIDY, BURY].concat(),
            &[self.revoked(), self.of("keys"), self.state()],
        );
        bury.arg(self.keys()).arg(millis(burial.keep)).arg(mark).arg(life);
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
    let token = u64::from_str_radix(text.strip_prefix("2 ")?, 16).ok()?;
    Some(Mark { token })
}
