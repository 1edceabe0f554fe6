//! `strongroom recovery-kit`: one page to print that says all it takes to get everything back.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use zeroize::Zeroizing;

use crate::cli::context::Context;
use crate::cli::failure::Exit;
use crate::cli::failure::Failure;
use crate::cli::html;
use crate::cli::pages;
use crate::cli::qr::Qr;
use crate::cli::render;
use crate::cli::secrets;
use crate::cli::trusted::shown;
use crate::crypto::card::Card;
use crate::crypto::text;
use crate::id::Fingerprint;
use crate::vault::LockedVault;
use crate::vault::acts::Deed;
use crate::vault::receipt::Receipt;
use crate::vault::record::Head;
use crate::vault::slot::Lock;
use crate::vault::slot::Role;
use crate::vault::slot::Way;
use crate::vault::witness::Whole;

/// Writes one page to print: which vault, how to know it again, the recovery code or the cards, and the steps.
///
/// With --recovery-code-file or --card-file, the code or the cards are tried first and stand on the page as
/// text and as a QR code, each card on a sheet of its own. Without either the page takes no key and has a line
/// to write the code on by hand.
#[derive(Args)]
pub struct RecoveryKitArgs {
    /// The page, a file of HTML that must not exist yet and only you can read
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

/// What opens the vault, as it stands on the page.
enum Key {
    /// To be written by hand.
    Blank,
    Code(Zeroizing<String>, Role),
    Cards(Vec<Card>, Role),
}

/// What every sheet says of the vault.
struct Vault {
    place: String,
    fingerprint: Fingerprint,
    newest: Option<(Receipt, u64)>,
    /// Whether a recovery code is one of its ways in.
    has_code: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Exit::Refused`] if the file exists; [`Exit::WrongKey`] if the code or the cards don't open this vault.
pub fn run(context: &Context, args: &RecoveryKitArgs) -> Result<Exit, Failure> {
    pages::check_absent(&args.out)?;
    let (locked, pins) = context.locked()?;
    let vault = Vault {
        place: locked.store().place(),
        fingerprint: locked.log().fingerprint(),
        newest: newest(context, &locked),
        has_code: locked.slot_table()?.0.slots.iter().any(|slot| matches!(slot.lock, Lock::RecoveryCode(_))),
    };
    let key = key(context, locked, pins.is_some())?;
    pages::write_new(&args.out, page(context, &vault, &key).as_bytes())?;
    tell(context, args, &vault, &key)
}

/// The code or the cards that were given, once they have opened the vault.
fn key(context: &Context, locked: LockedVault, is_known: bool) -> Result<Key, Failure> {
    let given = &context.secrets;
    if given.recovery_code_file.is_some() && !given.card_file.is_empty() {
        return Err(Failure::usage("a page is for a recovery code or for cards")
            .hint("make two pages, one with --recovery-code-file, one with --card-file"));
    }
    let role = |way: Way| {
        let vault = context.unlock_by(locked, is_known, &way)?;
        context.record(&vault, "recovery-kit", Deed::Given(String::new()));
        Ok::<_, Failure>(vault.slot().1)
    };
    if let Some(file) = &given.recovery_code_file {
        let code = secrets::read_recovery_code(file)?;
        let written = text::encode_recovery_code(&code);
        return Ok(Key::Code(written, role(Way { recovery_code: Some(code), ..Way::default() })?));
    }
    let cards = secrets::read_each_card(&given.card_file)?;
    if cards.is_empty() {
        return Ok(Key::Blank);
    }
    let set = secrets::join_cards(&cards)?;
    Ok(Key::Cards(cards, role(Way { cards: Some(set), ..Way::default() })?))
}

/// The receipt of the newest snapshot that any machine added, and when that was.
fn newest(context: &Context, locked: &LockedVault) -> Option<(Receipt, u64)> {
    let mut newest: Option<(Receipt, u64)> = None;
    let log = locked.log();
    for device in log.devices().keys() {
        let history = match locked.whole_history(*device) {
            Ok(Whole { history, hindrance, .. }) => {
                if let Some(error) = hindrance {
                    context.warn(&format!("device {}: {error}", device.short()));
                }
                history
            }
            Err(error) => {
                context.warn(&format!("device {}: {error}", device.short()));
                continue;
            }
        };
        let Some(last) = history.snapshots().last() else { continue };
        if newest.is_none_or(|(_, time)| last.header.time > time) {
            let head = Head { device: *device, seq: last.header.seq, digest: last.digest };
            newest = Some((Receipt::new(log.fingerprint().vault_id(), log.head(), &head), last.header.time));
        }
    }
    newest
}

fn page(context: &Context, vault: &Vault, key: &Key) -> Zeroizing<String> {
    let (heading, about, steps) = (heading(key), vault.about(context), vault.steps(key));
    let sheets: Vec<Zeroizing<String>> = match key {
        Key::Blank if !vault.has_code => vec![Zeroizing::new(NO_CODE.to_owned())],
        Key::Blank => vec![Zeroizing::new(BLANK.to_owned())],
        Key::Code(code, role) => vec![secret("Recovery code", &code_says(*role), code)],
        Key::Cards(cards, role) => cards.iter().map(|card| card_sheet(card, *role)).collect(),
    };
    let mut parts = Vec::new();
    for sheet in &sheets {
        parts.extend(["<section class=\"sheet\">\n", &heading, &about, sheet, &steps, "</section>\n"]);
    }
    html::page("strongroom recovery kit", &parts)
}

fn heading(key: &Key) -> String {
    let with = match key {
        Key::Cards(cards, _) => {
            format!("With {} of such pages", cards.first().map_or(2, Card::threshold))
        }
        Key::Blank | Key::Code(..) => "With this page".to_owned(),
    };
    format!(
        "<h1>Recovery kit</h1>\n<p>{with}, the storage that holds the vault, and any computer, all that was backed up \
         can be brought back, even if every machine is gone. Keep it away from the machines and from the vault: in a \
         safe, with somebody you trust.</p>\n"
    )
}

const NO_CODE: &str = "<h2>Recovery code</h2>\n<p>This vault has no recovery code, so this page alone opens nothing. \
    Make one with <code>strongroom slot add CODE --role owner --new-recovery-code</code> and print this page anew, or \
    write below with what else the vault opens and where that is kept.</p>\n\
    <p class=\"secret\">____________________________________________</p>\n";

const BLANK: &str = "<h2>Recovery code</h2>\n<p>Copy the code from your paper to this line, or keep both \
    papers together. Whoever has it can read everything in the vault.</p>\n\
    <p class=\"secret\">______ - ______ - ______ - ______ - ______ - ______</p>\n";

fn code_says(role: Role) -> String {
    format!("Whoever has this code can {}.", may(role))
}

fn may(role: Role) -> &'static str {
    match role {
        Role::Owner => "read everything in the vault and change who else can",
        Role::Reader => "read everything in the vault",
    }
}

fn card_sheet(card: &Card, role: Role) -> Zeroizing<String> {
    let (threshold, count) = (card.threshold(), card.count());
    let title = format!("Card {} of {count}", card.index());
    let says = format!(
        "{threshold} of {count} such cards are needed; fewer tell nothing. Whoever brings {threshold} of them \
         together can {}.",
        may(role)
    );
    secret(&title, &says, &card.encode())
}

/// A secret as text and as a picture, in one piece that leaves nothing behind.
fn secret(title: &str, says: &str, secret: &str) -> Zeroizing<String> {
    let picture = Qr::new(secret).map(|qr| qr.svg()).unwrap_or_default();
    let head = format!(
        "<h2>{}</h2>\n<p>{}</p>\n<div class=\"key\">\n<div class=\"qr\">",
        html::escape(title),
        html::escape(says)
    );
    // Digits, capitals, dashes and a colon: nothing to escape.
    let parts = [&head, &*picture, "</div>\n<p class=\"secret\">", secret, "</p>\n</div>\n"];
    let mut sheet = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        sheet.push_str(part);
    }
    sheet
}

impl Vault {
    fn about(&self, context: &Context) -> String {
        let newest = match &self.newest {
            None => "no snapshot yet".to_owned(),
            Some((receipt, time)) => {
                format!("<code>{receipt}</code><br>of {}", render::zoned_time(*time))
            }
        };
        format!(
            "<h2>The vault</h2>\n<dl>\n<dt>Where it is</dt><dd><code>{}</code></dd>\n\
             <dt>Its fingerprint</dt><dd>{}<br><code>{}</code></dd>\n\
             <dt>The newest receipt</dt><dd>{newest}</dd>\n<dt>This page is of</dt><dd>{}</dd>\n</dl>\n",
            html::escape(&self.place),
            text::fingerprint_words(&self.fingerprint),
            text::fingerprint_base32(&self.fingerprint),
            render::zoned_time(context.now),
        )
    }

    /// What to do, in plain words. `VAULT` stands for wherever the storage is by then.
    fn steps(&self, key: &Key) -> String {
        let base32 = text::fingerprint_base32(&self.fingerprint);
        let (bring, option) = match key {
            Key::Blank | Key::Code(..) => (
                "Type the recovery code into a file <code>code.txt</code> that only you can read \
                 (<code>chmod 600 code.txt</code>), or wait until you are asked for it."
                    .to_owned(),
                " --recovery-code-file code.txt".to_owned(),
            ),
            Key::Cards(cards, _) => {
                let threshold = cards.first().map_or(2, Card::threshold);
                let bring = format!(
                    "Bring {threshold} cards together. Type each into a file that only you can read \
                     (<code>chmod 600 card-*.txt</code>), or wait until you are asked for them."
                );
                (bring, (1..=threshold).map(|at| format!(" --card-file card-{at}.txt")).collect())
            }
        };
        let receipt = match &self.newest {
            None => String::new(),
            Some(_) => format!(
                "<li>Is it the newest state? With the receipt above, or better a later one, as each backup prints it, \
                 in the place of RECEIPT, this finds out whether anything is missing or was put back to an older \
                 state:{}</li>\n",
                html::command(&format!(
                    "strongroom --vault VAULT verify --public --fingerprint {base32} --expect RECEIPT"
                ))
            ),
        };
        let is_reader = matches!(key, Key::Code(_, Role::Reader) | Key::Cards(_, Role::Reader));
        let last = if is_reader {
            let command = format!(
                "strongroom --vault VAULT --fingerprint {base32}{option} restore latest --target Restored"
            );
            format!("<li>Get everything back:{}</li>\n", html::command(&command))
        } else {
            let command = format!("strongroom --vault VAULT --fingerprint {base32}{option} recover");
            format!(
                "<li>Get everything back:{}It lists what every machine backed up, gives you a new way in and a new \
                 recovery code, and offers to restore. What stands on this page opens nothing from then on: destroy \
                 it, and print a new one.</li>\n",
                html::command(&command)
            )
        };
        format!(
            "<h2>What to do</h2>\n<ol>\n\
             <li>Take any computer with Linux that you trust, and install the program strongroom on it.</li>\n\
             <li>Attach the storage that holds the vault. Below, put its folder in the place of VAULT.</li>\n\
             <li>Is it the right one? This prints twelve words, which must be those above:{}</li>\n\
             {receipt}<li>{bring}</li>\n{last}</ol>\n",
            html::command("strongroom --vault VAULT inspect"),
        )
    }
}

fn tell(context: &Context, args: &RecoveryKitArgs, vault: &Vault, key: &Key) -> Result<Exit, Failure> {
    let (kind, sheets) = match key {
        Key::Blank => (None, 1),
        Key::Code(..) => (Some("recovery code"), 1),
        Key::Cards(cards, _) => (Some("cards"), cards.len()),
    };
    let file = shown(&args.out);
    if context.output.json {
        context.json(&json!({
            "message_type": "recovery_kit",
            "schema": 1,
            "file": file,
            "kind": kind,
            "sheets": sheets,
            "receipt": vault.newest.as_ref().map(|(receipt, _)| receipt.to_string()),
        }))?;
        return Ok(Exit::Done);
    }
    context.line(&format!("the page is in {file}, {}", super::status::count(sheets, "sheet")))?;
    if matches!(key, Key::Blank) && !vault.has_code {
        context.warn(
            "this vault has no recovery code, so the page alone opens nothing: `strongroom slot add CODE --role owner \
             --new-recovery-code` makes one; `--card-file` prints cards",
        );
        return Ok(Exit::Done);
    }
    context.line(match key {
        Key::Blank => "Print it and write the recovery code on it by hand",
        Key::Code(..) => "The code on it opens this vault: print it, keep it apart, and delete the file",
        Key::Cards(..) => {
            "The cards on it open this vault: print it, give each sheet to another person, and delete the file"
        }
    })?;
    Ok(Exit::Done)
}
