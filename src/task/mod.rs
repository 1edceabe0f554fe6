//! Things done from end to end, and the only place with threads.

pub mod backup;
pub mod browse;
pub mod error;
pub mod export;
pub mod incident;
pub mod lost;
pub mod reencrypt;
pub mod reseed;
pub mod restore;
pub mod seal;
pub mod verify;
