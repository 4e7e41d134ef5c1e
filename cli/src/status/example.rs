//! A ring as it should be, for tests to spoil.

use std::time::Duration;

use tktrot::schedule::KeyState;

use super::counters::Counters;
use super::ring::{Exposure, KeyStatus, LockState, Maker, RingStatus, RingUser};
use crate::processes::{LockHolder, Presence};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);

/// A key that will encrypt in so long, or has done so for so long.
pub fn key(name: &str, encrypts_in: Duration, age: Duration) -> KeyStatus {
    let encrypts_for = (HOUR + encrypts_in).saturating_sub(age);
    let decrypts_for = (3 * HOUR + encrypts_in).saturating_sub(age);
    let state = match (encrypts_in.is_zero(), encrypts_for.is_zero(), decrypts_for.is_zero()) {
        (false, ..) => KeyState::Announced,
        (true, false, _) => KeyState::Active,
        (true, true, false) => KeyState::Retired,
        (true, true, true) => KeyState::Expired,
    };
    KeyStatus {
        name: name.into(),
        state,
        maker: Maker::Here,
        plain: false,
        age,
        encrypts_in,
        encrypts_for,
        decrypts_for,
    }
}

pub fn user(pid: u32) -> RingUser {
    RingUser {
        pid,
        program: "nginx".into(),
        presence: Presence::Maps,
        counts: true,
        writes: true,
        locked: Some(true),
        binds: Some(vec!["all".into()]),
    }
}

/// Three keys, two servers, some tickets, no trouble.
pub fn healthy() -> RingStatus {
    RingStatus {
        name: "nginx".into(),
        path: "/run/tktrot/nginx.ring".into(),
        capacity: 64,
        file_removed: false,
        times_are_valid: true,
        exposure: Exposure {
            span: 3 * HOUR,
            rotate_every: HOUR,
            lifetime: 2 * HOUR,
            ahead: HOUR + 48 * MINUTE,
        },
        governed_for: None,
        fleet_problems: Vec::new(),
        agent_problem: None,
        keys: vec![
            key("11111111", Duration::ZERO, HOUR + 12 * MINUTE),
            key("22222222", Duration::ZERO, 12 * MINUTE),
            key("33333333", 48 * MINUTE, Duration::ZERO),
        ],
        writer_due_in: Some(42 * MINUTE),
        overdue: Duration::ZERO,
        writer_lock: LockState::Free,
        writer_is_stuck: false,
        upkeep_lock: LockState::Held(LockHolder {
            thread: None,
            process: Some(4712),
            own_pid: 4712,
            program: "nginx".into(),
            stopped: false,
        }),
        upkeep_thread_expected: true,
        users: vec![RingUser { counts: false, ..user(4711) }, user(4712)],
        contexts_differ_in: Vec::new(),
        hidden_processes: 0,
        promised: Some(5 * MINUTE),
        counters: Counters {
            issued: 1200,
            resumed_active: 500,
            resumed_retired: 250,
            unknown: 200,
            expired: 30,
            wrong_scope: 20,
            not_resumed: 0,
            errors: 0,
            unsealed: 0,
            tickets_off: 0,
            anti_replay: 0,
            left_alone: 0,
            rotations: 12,
            generator_failures: 0,
            repairs: 1,
        },
        last_problem: None,
    }
}

/// The same with an agent, which announces a key shortly before it encrypts.
pub fn governed() -> RingStatus {
    let governed_for = Some(Duration::from_millis(2400));
    let mut status = RingStatus { governed_for, upkeep_lock: LockState::Free, ..healthy() };
    status.keys.pop();
    status
}

/// A ring that a server has opened for which no client has come yet.
pub fn idle() -> RingStatus {
    RingStatus {
        keys: Vec::new(),
        writer_due_in: None,
        upkeep_lock: LockState::Free,
        users: vec![RingUser { counts: false, ..user(4711) }],
        promised: None,
        counters: Counters::default(),
        ..healthy()
    }
}
