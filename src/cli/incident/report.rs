//! What an exposure report says, in the words of a person who reads it on a bad day.

use crate::cli::diff::plural;
use crate::cli::failure::one_line;
use crate::cli::log;
use crate::cli::render;
use crate::crypto::kdf::Argon2Settings;
use crate::task::incident::BODIES_READ;
use crate::task::incident::Done;
use crate::task::incident::Exposure;
use crate::task::incident::KeyKind;
use crate::task::incident::Resealed;
use crate::task::incident::Stolen;
use crate::task::incident::StolenDevice;
use crate::task::incident::StolenSlot;
use crate::task::incident::Suspect;
use crate::task::incident::seconds_a_guess;
use crate::task::reencrypt::Amount;
use crate::tree::path::printable;
use crate::vault::slot::Role;

/// How many snapshots that can't be read are listed.
const BEYOND_SHOWN: usize = 20;
/// How many paths that were backed up are listed.
const PATHS_SHOWN: usize = 20;

/// A part of the report, in the words that terminal, JSON and page share.
pub(super) struct Section {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) lines: Vec<String>,
}

/// All parts of the report, in their order.
pub(super) fn sections(exposure: &Exposure) -> Vec<Section> {
    let section = |name, title, lines| Section { name, title, lines };
    let (stolen, could, could_not, added, guessing) = match &exposure.stolen {
        Stolen::Device(stolen) => (
            stolen.about(),
            stolen.could(),
            stolen.could_not(),
            stolen.added(exposure.since),
            vec![
                "There is no passphrase to guess: the machine's key lay on it, and it opens nothing in the vault"
                    .to_owned(),
            ],
        ),
        Stolen::Slot(stolen) => (
            stolen.about(exposure),
            stolen.could(exposure),
            stolen.could_not(),
            stolen.added(exposure.since),
            stolen.guessing(),
        ),
    };
    vec![
        section("stolen", "What was stolen", stolen),
        section("could", "What its thief could do until now", could),
        section("could_not", "What its thief could not do", could_not),
        section("added", "What was added after the theft", added),
        section("guessing", "What guessing costs", guessing),
        section("copies", "What stays as it is", copies(exposure)),
        section("done", done_title(exposure), done(exposure)),
        section("remains", "What remains to be done", remains(exposure)),
    ]
}

fn objects(amount: &Amount) -> String {
    format!("{} ({})", plural(amount.objects, "object", "objects"), render::size(amount.bytes))
}

impl StolenDevice {
    pub(super) fn named(&self) -> String {
        if self.name.is_empty() { self.device.short() } else { one_line(&self.name) }
    }

    fn about(&self) -> Vec<String> {
        let taken_in = render::zoned_time(self.added);
        let number = plural(self.snapshots, "snapshot", "snapshots");
        let newest = self.newest.map_or_else(String::new, |newest| {
            format!(", the newest of {} by its own clock", render::zoned_time(newest))
        });
        vec![
            format!("{} ({}), a machine that was taken in on {taken_in}", self.named(), self.device.short()),
            format!("It held a key that adds snapshots and reads nothing. {number} of it counted{newest}"),
            self.backed_up(),
        ]
    }

    /// What lay on it, as far as it was backed up.
    fn backed_up(&self) -> String {
        let paths: Vec<String> = self.paths.iter().map(|path| printable(path)).collect();
        let more = if self.snapshots > BODIES_READ as u64 {
            format!(", by its newest {BODIES_READ} snapshots")
        } else {
            String::new()
        };
        match &paths[..] {
            [] => "What of it was backed up can't be told: none of its snapshots can be read".to_owned(),
            paths if paths.len() > PATHS_SHOWN => {
                let shown = paths[..PATHS_SHOWN].join(", ");
                format!("Backed up of it was{more}: {shown}, and {} more", paths.len() - PATHS_SHOWN)
            }
            paths => format!("Backed up of it was{more}: {}", paths.join(", ")),
        }
    }

    fn could(&self) -> Vec<String> {
        vec![
            "Read what lay on the machine's own disk, unless the disk was encrypted".to_owned(),
            "Add snapshots in the machine's name, and, if the machine's access to the storage allowed it, delete \
             objects: `strongroom verify` tells whether any is missing"
                .to_owned(),
            "With the machine's dedup secret and its cache, test guesses: was a file that the thief has already in \
             this machine's latest snapshots (of the jobs that ran in the last 45 days)? Nothing else answers them"
                .to_owned(),
        ]
    }

    fn could_not(&self) -> Vec<String> {
        vec![
            "Read anything in the vault: no file, no name, not even this machine's own snapshots".to_owned(),
            "Change or take away what was committed, by this machine or any other, unseen by who has used the vault \
             before or holds a receipt"
                .to_owned(),
            "Test any guess about other machines, or about what only older snapshots of this one held"
                .to_owned(),
        ]
    }

    fn added(&self, since: Option<u64>) -> Vec<String> {
        let mut lines: Vec<String> = self.suspects.iter().map(Suspect::words).collect();
        lines.extend(self.unreadable());
        lines.extend(self.past());
        match since {
            None => lines.push(
                "Not known, as no time of the theft was given: --since lists the machine's snapshots from then on"
                    .to_owned(),
            ),
            Some(since) if self.suspects.is_empty() && self.beyond.is_empty() && self.past.is_empty() => lines.push(format!(
                "No snapshot of the machine is of {} or later",
                render::zoned_time(since)
            )),
            Some(_) => {}
        }
        if self.is_clock_off {
            lines.push(
                "One of these claims a time before the theft and was made after one that claims a later: the \
                 machine's clock was wrong, or somebody wrote what he liked, and all of them may be good"
                    .to_owned(),
            );
        }
        if self.suspects.iter().any(|suspect| !suspect.counts) {
            lines.push(
                "What counts no more can't be restored, and is gone for good once all is sealed anew"
                    .to_owned(),
            );
        }
        if let Some(first) = self.suspects.first().filter(|first| first.counts && !self.is_last_given) {
            lines.push(format!(
                "They stay, as no clock may cost a good snapshot. Look at what they changed, with `strongroom diff`, \
                 before you restore one; to let those from {} on count no more, give `--last {}`, here or to \
                 `strongroom device revoke`",
                first.seq,
                first.seq - 1
            ));
        }
        lines.push(
            "Times are those of the machine's own clock: who holds its key can write any, so look at the newest \
             ones before as well"
                .to_owned(),
        );
        lines
    }
}

impl StolenDevice {
    /// What stands past where it was shut out.
    fn past(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .past
            .iter()
            .take(BEYOND_SHOWN)
            .map(|(seq, id)| {
                let id = data_encoding::HEXLOWER.encode(id);
                format!(
                    "Snapshot {seq} ({}) stands past where the machine was shut out, put there before or since: it \
                     counts for nothing",
                    &id[..8]
                )
            })
            .collect();
        if self.past.len() > BEYOND_SHOWN {
            lines.push(format!("And {} more of those", self.past.len() - BEYOND_SHOWN));
        }
        lines
    }

    /// What stands where the chain can't be read any more.
    fn unreadable(&self) -> Vec<String> {
        let Some(hindrance) = &self.hindrance else { return Vec::new() };
        let last = self.last.map_or(0, |head| head.seq);
        let mut lines = vec![format!(
            "Its chain can't be read to its end: {}. That happens if somebody adds snapshots with its key beside it",
            one_line(hindrance)
        )];
        let shown = self.beyond.iter().take(BEYOND_SHOWN);
        lines.extend(shown.map(|(seq, id)| {
            let id = data_encoding::HEXLOWER.encode(id);
            format!("Snapshot {seq} ({}): by the machine or by its thief; can't count", &id[..8])
        }));
        if self.beyond.len() > BEYOND_SHOWN {
            lines.push(format!("And {} more after those", self.beyond.len() - BEYOND_SHOWN));
        }
        lines.push(format!("With `--last {last}` its chain ends before them, and they are lost"));
        lines
    }
}

impl Suspect {
    fn words(&self) -> String {
        format!(
            "Snapshot {} ({}) of {}: {}{}",
            self.seq,
            self.id.short(),
            render::zoned_time(self.time),
            if self.counts { "goes on counting" } else { "counts no more once the machine is shut out" },
            if self.is_known_from_before {
                "; an owner's record from before the theft knows it, so it is no thief's"
            } else {
                ""
            }
        )
    }
}

impl StolenSlot {
    pub(super) fn named(&self) -> String {
        if self.label.is_empty() { self.id.short() } else { one_line(&self.label) }
    }

    pub(super) fn settings(&self) -> Option<Argon2Settings> {
        match self.was?.key {
            KeyKind::Passphrase(settings) | KeyKind::PassphraseAndKeyFile(settings) => Some(settings),
            _ => None,
        }
    }

    /// What its holder could do; of one that is gone and not remembered, the most.
    fn role(&self) -> Role {
        self.was.map_or(Role::Owner, |was| was.role)
    }

    fn about(&self, exposure: &Exposure) -> Vec<String> {
        vec![
            match self.was {
                Some(was) => format!(
                    "{} ({}), a way in: {}, as {}",
                    self.named(),
                    self.id.short(),
                    was.key.word(),
                    was.role.word()
                ),
                None => format!(
                    "{} ({}), a way in that was taken away before. What it was, and whether an owner's, the vault \
                     doesn't keep: this is told as if it had been an owner's",
                    self.named(),
                    self.id.short()
                ),
            },
            self.since_when(exposure),
        ]
    }

    /// Since when it opened the vault, as far as that is known.
    fn since_when(&self, exposure: &Exposure) -> String {
        match (&self.made, self.first_used) {
            (Some(made), _) => format!(
                "It opened the vault since {}, as the log of who did what has it: {}",
                render::zoned_time(made.time),
                log::words(made)
            ),
            (None, Some(used)) => format!(
                "Nothing says when it was made: it was in use on {}, and is at most as old as the vault, of {}",
                render::zoned_time(used),
                render::zoned_time(exposure.made)
            ),
            (None, None) => format!(
                "Nothing says when it was made: it is at most as old as the vault, of {}",
                render::zoned_time(exposure.made)
            ),
        }
    }

    fn could(&self, exposure: &Exposure) -> Vec<String> {
        let held = &exposure.held;
        let mut lines = vec![format!(
            "Read everything, of all machines: now {} of {}, {}, and whatever the vault held since the slot was \
             made, what was there before it included",
            plural(held.snapshots, "snapshot", "snapshots"),
            plural(held.devices, "machine", "machines"),
            objects(&held.amount)
        )];
        if held.unread > 0 {
            lines.push(format!(
                "{} could not be looked at to the end: `strongroom verify` says why",
                plural(held.unread, "machine", "machines")
            ));
        }
        if self.role() == Role::Owner {
            lines.push(
                "Sign: take machines and ways in into the vault, shut them out, change the keys. The authority's \
                 signing key is another one once the slot is gone"
                    .to_owned(),
            );
        }
        let Some(was) = self.was else { return lines };
        lines.push(match was.key {
            KeyKind::PassphraseAndKeyFile(_) => {
                "That takes both, passphrase and key file; with one alone, nothing can be read".to_owned()
            }
            KeyKind::Cards { threshold, count } => {
                format!("That takes {threshold} of the {count} cards; with fewer, nothing can be read")
            }
            KeyKind::Passphrase(_) => {
                "That takes the passphrase; who has a copy of the vault and not the passphrase can guess at it"
                    .to_owned()
            }
            KeyKind::KeyFile | KeyKind::RecoveryCode => {
                format!("That takes the {} and a copy of the vault; either alone reads nothing", was.key.word())
            }
            KeyKind::Recipient => {
                "That takes the outside recipient's private key and a copy of the vault; either alone reads nothing"
                    .to_owned()
            }
        });
        lines
    }

    fn could_not(&self) -> Vec<String> {
        match self.role() {
            Role::Reader => vec![
                "Change anything: a reader's key doesn't sign, so it takes in no machine and no way in, and shuts \
                 none out"
                    .to_owned(),
                "Add or remove a snapshot so that it counts".to_owned(),
            ],
            Role::Owner => vec![
                "Change what was committed without a trace: records are signed and chained, and machines that have \
                 seen the vault notice if its history is put back or forked"
                    .to_owned(),
            ],
        }
    }

    fn added(&self, since: Option<u64>) -> Vec<String> {
        if self.role() == Role::Reader {
            return vec!["Nothing: a reader's key adds nothing".to_owned()];
        }
        let Some(since) = since else {
            return vec![
                "Not known, as no time of the theft was given: --since lists the machines and ways in that were taken \
                 in from then on"
                    .to_owned(),
            ];
        };
        let ways = self.ways_since.iter().map(|done| {
            format!(
                "Way in, made on {} with {} ({}): {}",
                render::zoned_time(done.time),
                done.slot.short(),
                printable(done.act.host.as_bytes()),
                log::words(done)
            )
        });
        let machines = self.devices_since.iter().map(|(device, name, added)| {
            format!(
                "Machine {} ({}) was taken in on {}: if it is none of yours, `strongroom device revoke {}`",
                one_line(name),
                device.short(),
                render::zoned_time(*added),
                device.short()
            )
        });
        let mut lines: Vec<String> = ways.chain(machines).collect();
        if self.ways_since.is_empty() {
            lines.push(format!("No way in was made since {}", render::zoned_time(since)));
        }
        if self.devices_since.is_empty() {
            lines.push(format!("No machine was taken in since {}", render::zoned_time(since)));
        }
        lines.push(
            "A thief with an owner's key can write any time into a record, and can have made ways in: look through \
             `strongroom slot list` and `strongroom device list`, and take away what is none of yours"
                .to_owned(),
        );
        lines
    }

    fn guessing(&self) -> Vec<String> {
        let price = |settings: &Argon2Settings| {
            let seconds = seconds_a_guess(settings);
            let guesses = [6, 9, 12]
                .map(|power| format!("10^{power} guesses {}", core_time(seconds * 10_f64.powi(power))));
            vec![
                format!(
                    "Each guess at the passphrase takes {} MiB of memory, {} and about {seconds:.2} seconds \
                     of one processor core (measured: 1.12 for 256 MiB and 4 passes; others in proportion)",
                    settings.memory_kib / 1024,
                    plural(settings.passes.into(), "pass", "passes"),
                ),
                format!("On one core: {}. A thief with a thousand cores is a thousand times as fast", guesses.join(", ")),
                "A passphrase that strongroom made takes 10^33 guesses; one that people choose often takes fewer \
                 than 10^9"
                    .to_owned(),
            ]
        };
        let Some(was) = &self.was else {
            return vec![
                "What opened it is not known here: the report of the run that took it away says what guessing costs"
                    .to_owned(),
            ];
        };
        match &was.key {
            KeyKind::Passphrase(settings) => price(settings),
            KeyKind::PassphraseAndKeyFile(settings) => {
                let without = "Without the key file, 256 random bits, no guess can be tested. With it:".to_owned();
                std::iter::once(without).chain(price(settings)).collect()
            }
            KeyKind::KeyFile => vec!["A key file has 256 random bits: it can't be guessed, only copied".to_owned()],
            KeyKind::RecoveryCode => {
                vec!["A recovery code has 160 random bits: it can't be guessed, only copied".to_owned()]
            }
            KeyKind::Cards { threshold, count } => vec![format!(
                "{threshold} of {count} cards give 256 random bits; fewer than {threshold} tell nothing, and can't \
                 be guessed further"
            )],
            KeyKind::Recipient => vec![
                "An outside recipient's slot rests on X-Wing alone, X25519 and ML-KEM-768 together: the key can't \
                 be guessed, only copied, with whatever protects it where it is kept"
                    .to_owned(),
            ],
        }
    }
}

/// So many seconds of one core, in words.
fn core_time(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    match seconds {
        ..DAY => format!("take {:.0} hours", seconds / 3_600.0),
        ..63_115_200.0 => format!("take {:.0} days", seconds / DAY),
        _ => format!("take {:.0} years", seconds / (365.25 * DAY)),
    }
}

fn copies(exposure: &Exposure) -> Vec<String> {
    match &exposure.stolen {
        Stolen::Device(_) => vec![
            "What lay on the machine's disk: the vault can't take it back".to_owned(),
            "The snapshots that count: they can be restored as before".to_owned(),
        ],
        Stolen::Slot(_) => vec![
            "What was copied before stays readable to whoever has that copy and the stolen key: new keys don't reach \
             copies"
                .to_owned(),
            "So do other copies of the storage: a second drive, versions or snapshots that a bucket or a NAS keeps, \
             blocks of a worn disk. Remove the versions from before where they are kept"
                .to_owned(),
            "The machines' dedup secrets: every way in leads to them, and new keys don't change them. By themselves \
             they answer nothing, as what they could be tried on is sealed, in the vault and in the machines' caches"
                .to_owned(),
        ],
    }
}

fn done_title(exposure: &Exposure) -> &'static str {
    if exposure.done.is_some() { "What was done" } else { "What would be done: nothing was changed" }
}

fn done(exposure: &Exposure) -> Vec<String> {
    let (shut_out, why) = match &exposure.stolen {
        Stolen::Device(stolen) => {
            let name = stolen.named();
            let shut_out = match stolen.last {
                _ if stolen.is_shut_out => format!("{name} was shut out before, and stays so"),
                None => format!("{name} is shut out; none of its snapshots counts"),
                Some(last) => format!("{name} is shut out; its snapshots up to number {} count", last.seq),
            };
            let why = "Against reading that isn't needed, as the machine never could; with it no key that it held is \
                       in use any more";
            (shut_out, why)
        }
        Stolen::Slot(stolen) => (
            if stolen.is_gone {
                format!("{} was taken away before, and opens the vault no more", stolen.named())
            } else {
                format!("{} no longer opens the vault", stolen.named())
            },
            "What is added from now on takes them to read",
        ),
    };
    let Some(done) = &exposure.done else {
        return vec![
            format!("With --yes: {shut_out}"),
            if exposure.has_new_keys {
                format!("No other new keys: those of epoch {} were made since. {why}", exposure.newest)
            } else {
                format!("New keys for the vault. {why}")
            },
            format!("Sealed anew under them: up to {}", objects(&exposure.held.amount)),
        ];
    };
    let mut lines = vec![shut_out];
    if exposure.has_new_keys {
        lines.push(format!("Epoch {} had begun since, with new keys. {why}", done.epoch));
    } else if !matches!(done.resealed, Resealed::NoKeys(_)) {
        lines.push(format!("Epoch {} has begun, with new keys. {why}", done.epoch));
    }
    lines.push(match &done.resealed {
        Resealed::All { done, .. } => format!("{} sealed anew; the older keys are gone", objects(done)),
        Resealed::Part { done, left, kept: 0 } => {
            format!("{} sealed anew; {} still under older keys", objects(done), objects(left))
        }
        Resealed::Part { done, left, kept } => format!(
            "{} sealed anew; {} still under older keys; {} that stand for nothing any more the store did not remove",
            objects(done),
            objects(left),
            plural(*kept, "object", "objects")
        ),
        Resealed::Begun => {
            "Sealing anew what was there has begun: this was written before it ended".to_owned()
        }
        Resealed::Stopped(why) => format!("Sealing anew what was there has stopped: {}", one_line(why)),
        Resealed::NoKeys(why) => format!("No new keys were made: {}", one_line(why)),
    });
    lines
}

fn remains(exposure: &Exposure) -> Vec<String> {
    let mut lines = Vec::new();
    match &exposure.done {
        None => lines.push("Run the same with --yes".to_owned()),
        Some(Done { resealed: Resealed::All { behind: 0, .. }, .. }) => {}
        Some(Done { resealed: Resealed::All { .. }, .. }) => lines.push(
            "Run `strongroom reencrypt` again after the next backup of every machine: one that was at work as the keys \
             changed may still add something under older ones, so nothing is stated and signed yet"
                .to_owned(),
        ),
        Some(Done { resealed: Resealed::NoKeys(_), .. }) => lines.push(
            "Run `strongroom rotate --reencrypt`: it makes the new keys and seals what is there under them"
                .to_owned(),
        ),
        Some(_) => lines.push(
            "Run `strongroom reencrypt` until it ends with 0: until then the older keys open what is left"
                .to_owned(),
        ),
    }
    match &exposure.stolen {
        Stolen::Device(_) => {
            lines.push(
                "Take the machine's access to the storage away, where the storage is kept, so that its thief can't \
                 delete"
                    .to_owned(),
            );
            lines.push(
                "If a key file, a passphrase or a recovery code was on it or with it, run `strongroom incident --slot \
                 LABEL` for that, too"
                    .to_owned(),
            );
            lines.push("Run `strongroom verify`: is everything there that was ever added?".to_owned());
        }
        Stolen::Slot(stolen) => {
            lines.push("Give its holder another way in: `strongroom slot add`".to_owned());
            if stolen.is_last_code {
                lines.push(
                    "The vault has no recovery code any more: `strongroom slot add CODE --role owner \
                     --new-recovery-code`"
                        .to_owned(),
                );
            }
            if stolen.role() == Role::Owner {
                lines.push(
                    "Give people who check receipts a new one: `strongroom device list` prints it".to_owned(),
                );
            }
            lines.push("Decide whom you have to tell about what could be read".to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::incident::Was;

    #[test]
    fn guessing_is_priced_by_what_the_slot_is_locked_with() {
        let says = |key| {
            let (id, label) = (crate::id::SlotId([7; 16]), "anna".to_owned());
            let devices_since = Vec::new();
            let was = Some(Was { role: Role::Reader, key });
            let slot = StolenSlot {
                id,
                label,
                was,
                is_gone: false,
                made: None,
                first_used: None,
                ways_since: Vec::new(),
                devices_since,
                is_last_code: false,
            };
            slot.guessing().join("\n")
        };
        let own = says(KeyKind::Passphrase(Argon2Settings::DEFAULT));
        for part in
            ["256 MiB of memory, 3 passes and about 0.84 seconds", "10^6 guesses take 10 days", "27 years"]
        {
            assert!(own.contains(part), "{part}\n{own}");
        }
        let weaker = Argon2Settings { memory_kib: 64 * 1024, passes: 1, lanes: 1 };
        assert!(
            says(KeyKind::Passphrase(weaker)).contains("64 MiB of memory, 1 pass and about 0.07 seconds")
        );
        let both = says(KeyKind::PassphraseAndKeyFile(Argon2Settings::DEFAULT));
        assert!(
            both.starts_with("Without the key file, 256 random bits, no guess can be tested.")
                && both.ends_with(&own)
        );
        for (key, part) in [
            (KeyKind::KeyFile, "256 random bits"),
            (KeyKind::RecoveryCode, "160 random bits"),
            (KeyKind::Cards { threshold: 2, count: 3 }, "2 of 3 cards give"),
            (KeyKind::Recipient, "rests on X-Wing alone"),
        ] {
            assert!(says(key).contains(part) && !says(key).contains("Each guess"), "{part}");
        }
    }

    #[test]
    fn the_time_of_a_core_is_told_in_a_unit_that_says_enough() {
        for (seconds, words) in
            [(7_200.0, "take 2 hours"), (864_000.0, "take 10 days"), (8.4e11, "take 26618 years")]
        {
            assert_eq!(core_time(seconds), words);
        }
    }
}
