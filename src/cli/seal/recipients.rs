//! Whom a file is sealed for beside whoever seals it.

use std::io;

use crate::cli::failure::Failure;
use crate::cli::new_way::refuse_secret;
use crate::cli::seal::SealArgs;
use crate::cli::trusted;
use crate::cli::trusted::Kept;
use crate::crypto::kem::KemPublicKey;
use crate::crypto::recipient;
use crate::tree::path::printable;

/// The most that a file of recipients has, in bytes: some five hundred of them.
const RECIPIENTS_BYTES_MAX: u64 = 1 << 20;

/// Somebody whose own key opens the file.
pub(super) struct Recipient {
    pub(super) label: String,
    pub(super) key: KemPublicKey,
}

/// Everybody whose own key is to open the file.
pub(super) fn recipients(args: &SealArgs) -> Result<Vec<Recipient>, Failure> {
    // Each with where it stands.
    let mut lines: Vec<(String, String)> =
        args.recipient.iter().map(|line| (String::new(), line.clone())).collect();
    for file in &args.recipients_file {
        let shown = trusted::shown(file);
        let mut text = String::new();
        let opened = trusted::open(file, Kept::Unchanged)?;
        io::Read::read_to_string(&mut io::Read::take(opened, RECIPIENTS_BYTES_MAX), &mut text)
            .map_err(|error| Failure::io(&shown, &error))?;
        let told = (1..).zip(text.lines().map(str::trim));
        let told = told.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines.extend(told.map(|(number, line)| (format!("{shown}, line {number}: "), line.to_owned())));
    }
    let mut recipients: Vec<Recipient> = Vec::new();
    for (place, line) in lines {
        let (label, key) = match line.split_once('=') {
            Some((label, key)) => (Some(label.trim()), key.trim()),
            None => (None, line.trim()),
        };
        refuse_secret(key)?;
        let key =
            recipient::decode_recipient(key).map_err(|error| Failure::usage(format!("{place}{error}")))?;
        if recipients.iter().any(|other| other.key.as_bytes() == key.as_bytes()) {
            continue;
        }
        let label = match label {
            Some(label) if !label.is_empty() && label.len() <= crate::vault::change::LABEL_BYTES_MAX => {
                label.to_owned()
            }
            Some(_) => return Err(Failure::usage(format!("{place}a recipient's name has 1 to 255 bytes"))),
            None => format!("recipient {}", recipients.len() + 1),
        };
        if recipients.iter().any(|other| other.label == label) {
            return Err(Failure::usage(format!(
                "{place}two recipients are called {}",
                printable(label.as_bytes())
            )));
        }
        recipients.push(Recipient { label, key });
    }
    Ok(recipients)
}
