//! How long ago each job ran, which bounds what is remembered of jobs that run no more.
//!
//! It is counted from run to run, and a pause counts for a few days at most. So a clock that is wrong
//! once, decades ahead or back in 1970, makes no job look old, neither then nor when it is right again
//! at worst a job that hadn't run for more than five weeks is forgotten and uploads anew.

use std::collections::BTreeMap;

use crate::codec;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::id::JobId;
use crate::task::error::Error;
use crate::vault::device::DeviceVault;
use crate::vault::device::io_error;

const FILE: &str = "jobs";
const FILE_BYTES_MAX: u64 = 16 << 20;
const DAY_NS: u64 = 24 * 3600 * 1_000_000_000;
/// How long a job that isn't run any more is remembered.
pub const KEPT_NS: u64 = 45 * DAY_NS;
/// What a pause between two runs counts for at most, however long it seems.
const PAUSE_NS_MAX: u64 = 7 * DAY_NS;

/// The age of each job at the last run.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Ages {
    /// The time that the clock showed then.
    last: u64,
    ages: BTreeMap<JobId, u64>,
}

impl Ages {
    /// Reads them; where there are none, or none that open, no job has any age yet.
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn load(vault: &DeviceVault) -> Result<Self, Error> {
        let state = vault.state();
        let sealed = state.read(FILE, FILE_BYTES_MAX).map_err(|error| io_error(state, FILE, &error))?;
        let opened = sealed.and_then(|sealed| vault.unprotect(FILE, &sealed));
        Ok(opened.and_then(|bytes| bytes.expose(Self::decode).ok()).unwrap_or_default())
    }

    /// Keeps them.
    ///
    /// # Errors
    /// [`crate::vault::error::Error::State`].
    pub fn save(&self, vault: &DeviceVault) -> Result<(), Error> {
        let state = vault.state();
        let sealed = vault.protect(FILE, &self.encode());
        state.replace(FILE, &sealed).map_err(|error| io_error(state, FILE, &error).into())
    }

    /// `job` runs, at `now`: all others get older.
    pub fn run(&mut self, job: &JobId, now: u64) {
        let pause = now.saturating_sub(self.last).min(PAUSE_NS_MAX);
        for age in self.ages.values_mut() {
            *age = age.saturating_add(pause);
        }
        self.ages.insert(*job, 0);
        self.last = now;
    }

    /// Whether a job hasn't run for so long that it is to be forgotten; one not met before begins now.
    pub fn is_old(&mut self, job: JobId) -> bool {
        *self.ages.entry(job).or_insert(0) > KEPT_NS
    }

    /// A job is forgotten.
    pub fn forget(&mut self, job: &JobId) {
        self.ages.remove(job);
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(12 + self.ages.len() * 24);
        out.u64(self.last).count(self.ages.len());
        for (job, age) in &self.ages {
            out.bytes(&job.0).u64(*age);
        }
        out.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut from = Reader::new(bytes);
        let last = from.u64()?;
        let count = from.count(24)?;
        let ages = (0..count)
            .map(|_| Ok((JobId(from.array()?), from.u64()?)))
            .collect::<Result<_, codec::Error>>()?;
        from.finish()?;
        Ok(Self { last, ages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId([1; 16]);
    const OTHER: JobId = JobId([2; 16]);
    const NOW: u64 = 20_000 * DAY_NS;

    /// Whether the other job is old once these runs of the first are over, in days from its own.
    fn is_old_after(days: impl IntoIterator<Item = i64>) -> bool {
        let mut ages = Ages::default();
        ages.run(&OTHER, NOW);
        for day in days {
            ages.run(&JOB, NOW.checked_add_signed(day * DAY_NS.cast_signed()).unwrap());
            assert!(!ages.is_old(JOB), "a job that runs is never old");
        }
        assert_eq!(Ages::decode(&ages.encode()), Ok(ages.clone()));
        ages.is_old(OTHER)
    }

    #[test]
    fn a_job_that_runs_no_more_is_old_after_45_days() {
        assert!(!is_old_after(1..=45));
        assert!(is_old_after(1..=46));
        assert!(is_old_after((0..60).step_by(5)));
    }

    #[test]
    fn a_clock_that_is_wrong_for_once_makes_no_job_old() {
        for wrong in [30 * 365, -20_000] {
            assert!(!is_old_after([1, wrong, 2, 3]), "{wrong}");
            assert!(!is_old_after((1..=37).chain([wrong, 38])), "{wrong}");
            assert!(!is_old_after([wrong, 1, wrong, 2, wrong, 3]), "{wrong}");
            // And it gets old all the same.
            assert!(is_old_after([wrong].into_iter().chain(1..=50)), "{wrong}");
        }
    }
}
