//! Whether a Redis writes to disk what it holds.

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

/// What Redis says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It writes nothing.
    None,
    /// It writes a snapshot now and then.
    Snapshots,
    /// It writes every change.
    EveryChange,
    /// It does not say: why.
    Unknown(String),
}

impl Persistence {
    /// Asks.
    pub async fn of(connection: &mut MultiplexedConnection) -> Persistence {
        let appends = match setting(connection, "appendonly").await {
            Ok(value) => value,
            Err(error) => return Persistence::Unknown(error.to_string()),
        };
        if appends == "yes" {
            return Persistence::EveryChange;
        }
        match setting(connection, "save").await {
            Ok(points) if points.is_empty() => Persistence::None,
            Ok(_) => Persistence::Snapshots,
            Err(error) => Persistence::Unknown(error.to_string()),
        }
    }

    /// Why a Redis like this is not used; `None` if it is.
    pub fn objection(&self, allowed: bool) -> Option<&'static str> {
        (*self == Persistence::EveryChange && !allowed).then_some(
            "it writes every change to disk (appendonly yes), so that keys outlive their end there: \
             whoever gets the disk and the fleet secret later can read recorded traffic. Give keys \
             a Redis of their own with appendonly no and save \"\" (nothing is lost with it: the \
             agents put back what it forgets), or set allow_persistence = true in [redis]",
        )
    }

    /// What an operator should know of a Redis that is used.
    pub fn warning(&self) -> Option<String> {
        match self {
            Persistence::None => None,
            Persistence::Snapshots => Some(
                "it writes snapshots to disk (save is not empty), in which wrapped keys may outlive \
                 their end: with the fleet secret they can be read. Set save \"\" there"
                    .into(),
            ),
            Persistence::EveryChange => Some(
                "it writes every change to disk (appendonly yes), which allow_persistence allows: \
                 keys are forward secret only as long as the fleet secret is one"
                    .into(),
            ),
            Persistence::Unknown(why) => Some(format!(
                "whether it writes keys to disk could not be checked ({why}); allow this user \
                 `+config|get`, or see to it that appendonly is no and save is empty"
            )),
        }
    }
}

async fn setting(connection: &mut MultiplexedConnection, name: &str) -> RedisResult<String> {
    let mut command = cmd("CONFIG");
    command.arg("GET").arg(name);
    let pairs: std::collections::HashMap<String, String> = command.query_async(connection).await?;
    Ok(pairs.get(name).cloned().unwrap_or_default())
}
