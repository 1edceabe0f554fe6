//! Cards: the shares of a secret as text that people print, keep apart and type in again.

use std::fmt;

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use crate::crypto::crockford;
use crate::crypto::random;
use crate::crypto::secret::Secret;
use crate::crypto::shamir;
use crate::crypto::shamir::Share;
use crate::crypto::text;

/// The most cards of a set: each of a card's numbers is one digit.
pub const COUNT_MAX: u8 = 31;
/// In capitals, so that a QR code takes 11 bits for two characters.
const PREFIX: &str = "STRONGROOM-CARD-1:";
/// [`PREFIX`] without what may stand between groups, up to its number.
const KIND: &str = "STRONGROOMCARD";
const CHECK: &[u8] = b"strongroom/card/1\0";
/// Three numbers, then 40 bytes, and 25 bits to check them.
const DIGITS: usize = 72;
const NUMBER_DIGITS: usize = 3;
const CHECK_DIGITS: usize = 5;
const SET_BYTES: usize = 8;
const BYTES: usize = NUMBER_DIGITS + SET_BYTES + 32;

/// Why text is no card, or cards were not joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The text is not that of a card.
    NotCard,
    /// It is a card of a kind that this program doesn't know.
    Newer,
    /// A card has 72 characters after its prefix; this has so many.
    Length(usize),
    /// A character that no card has.
    Character(char),
    /// A character of the card is wrong.
    Check,
    /// It was typed as it was written, and says that it is this card of a set that can't be.
    Numbers {
        /// How many cards it takes.
        threshold: u8,
        /// How many there are.
        count: u8,
        /// Which of them it is.
        index: u8,
    },
    /// There is no set of so many cards, of which so many are enough.
    Set {
        /// How many cards it takes.
        threshold: u8,
        /// How many there are.
        count: u8,
    },
    /// Two of the cards are of different sets.
    Sets([u8; SET_BYTES], [u8; SET_BYTES]),
    /// The cards are of one set and were not made together: they differ in its numbers.
    Forged,
    /// The cards don't have the secret together.
    Shares(shamir::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCard => write!(f, "it is not a card that strongroom made"),
            Self::Newer => write!(f, "it is a card made by a newer strongroom"),
            Self::Length(length) => {
                write!(f, "a card has {DIGITS} characters after the colon, and this has {length}")
            }
            Self::Character(character) => {
                write!(f, "no card has the character {}", character.escape_default())
            }
            Self::Check => write!(f, "a character of the card is wrong: its check differs"),
            Self::Numbers { threshold, count, index } => {
                write!(f, "there can be no card {index} of {count}, of which {threshold} are enough")
            }
            Self::Set { threshold, count } => write!(
                f,
                "there is no set of {count} cards of which {threshold} are enough: \
                 of 2 to {COUNT_MAX} cards, at least 2 and at most all"
            ),
            Self::Sets(first, other) => write!(
                f,
                "the cards are of different sets: {} and {}",
                HEXLOWER.encode(first),
                HEXLOWER.encode(other)
            ),
            Self::Forged => write!(f, "the cards name one set and were not made together"),
            Self::Shares(shamir::Error::TooFew { needs, have }) => {
                write!(f, "it takes {needs} cards; given: {have}")
            }
            Self::Shares(shamir::Error::Twice(index)) => write!(f, "card {index} is there twice"),
            Self::Shares(_) => write!(f, "the cards don't lead to one secret"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Shares(error) => Some(error),
            _ => None,
        }
    }
}

/// What one person keeps.
pub struct Card {
    set: [u8; SET_BYTES],
    count: u8,
    share: Share,
}

impl Card {
    /// A new secret, and a new set of `count` cards, any `threshold` of which have it.
    ///
    /// # Errors
    /// [`Error::Set`] unless 2 <= `threshold` <= `count` <= 31.
    pub fn deal(threshold: u8, count: u8) -> Result<(Secret<32>, Vec<Self>), Error> {
        let error = Error::Set { threshold, count };
        if count > COUNT_MAX {
            return Err(error);
        }
        let (secret, set) = (Secret::generate(), random::bytes());
        let shares = shamir::split(&secret, threshold, count).map_err(|_| error)?;
        Ok((secret, shares.into_iter().map(|share| Self { set, count, share }).collect()))
    }

    /// Names the set: all its cards have it, and so has what they open.
    #[must_use]
    pub fn set(&self) -> [u8; SET_BYTES] {
        self.set
    }

    /// How many cards it takes.
    #[must_use]
    pub fn threshold(&self) -> u8 {
        self.share.threshold()
    }

    /// How many cards there are.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.count
    }

    /// Which of them it is, counted from 1.
    #[must_use]
    pub fn index(&self) -> u8 {
        self.share.index()
    }

    /// The card's text: `STRONGROOM-CARD-1:`, then twelve groups of six characters.
    ///
    /// They are digits of Crockford's base32: threshold, count and index; 64 of the set's 8 bytes and the
    /// share's 32; and the first 25 bits of SHA-256 over `strongroom/card/1`, a zero byte, the three
    /// numbers as bytes, and the 40 bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let numbers = [self.threshold(), self.count, self.index()];
        let bytes: Secret<BYTES> =
            self.share.values().expose(|values| Secret::concat(&[&numbers, &self.set, values]));
        let mut digits = Zeroizing::new([0; DIGITS]);
        bytes.expose(|bytes| {
            digits[..NUMBER_DIGITS].copy_from_slice(&numbers);
            crockford::to_digits(&bytes[NUMBER_DIGITS..], &mut digits[NUMBER_DIGITS..]);
            digits[DIGITS - CHECK_DIGITS..]
                .copy_from_slice(&text::check_digits::<CHECK_DIGITS>(CHECK, bytes));
        });
        let length = PREFIX.len() + crockford::text_length(DIGITS);
        let mut text = Zeroizing::new(String::with_capacity(length));
        text.push_str(PREFIX);
        crockford::append(&*digits, &mut text);
        text
    }

    /// Whether a line of a page is, or was meant to be, a card: it begins as one, with other things than hyphens
    /// in between too, or is one without its prefix.
    #[must_use]
    pub fn is_like(line: &str) -> bool {
        let beginning = PREFIX.trim_end_matches(|character: char| !character.is_ascii_alphabetic());
        line.trim().get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
            || line.split_once(':').is_some_and(|(kind, _)| check_kind(kind) != Err(Error::NotCard))
            || (line.len() >= DIGITS && Self::decode(line.trim()).is_ok())
    }

    /// Reads what [`encode`](Self::encode) wrote, as people type it: in any case, O for 0, I and L for 1,
    /// blanks, line ends and dashes of any kind anywhere, and with the prefix or without.
    ///
    /// # Errors
    /// [`Error::NotCard`], [`Error::Newer`], or whatever is wrong with the card.
    pub fn decode(text: &str) -> Result<Self, Error> {
        let (kind, body) = match text.split_once(':') {
            Some((kind, body)) => (Some(kind), body),
            None => (None, text),
        };
        kind.map_or(Ok(()), check_kind)?;
        let mut digits = Zeroizing::new([0; DIGITS]);
        match crockford::read(body, &mut *digits) {
            Ok(DIGITS) => {}
            _ if kind.is_none() => return Err(Error::NotCard),
            Ok(length) => return Err(Error::Length(length)),
            Err(character) => return Err(Error::Character(character)),
        }
        let (data, check) = digits.split_at(DIGITS - CHECK_DIGITS);
        let (numbers, data) = data.split_at(NUMBER_DIGITS);
        let bytes = Secret::<BYTES>::filled(|bytes| {
            bytes[..NUMBER_DIGITS].copy_from_slice(numbers);
            crockford::to_bytes(data, &mut bytes[NUMBER_DIGITS..]);
        });
        if bytes.expose(|bytes| text::check_digits::<CHECK_DIGITS>(CHECK, bytes)) != check {
            return Err(Error::Check);
        }
        let (threshold, count, index) = (numbers[0], numbers[1], numbers[2]);
        let error = Error::Numbers { threshold, count, index };
        if threshold > count || index > count {
            return Err(error);
        }
        let share = Share::new(threshold, index, bytes.part(NUMBER_DIGITS + SET_BYTES));
        Ok(Self {
            set: bytes.part(NUMBER_DIGITS).expose(|set| *set),
            count,
            share: share.map_err(|_| error)?,
        })
    }
}

/// Whether what stands before the colon is [`PREFIX`].
fn check_kind(kind: &str) -> Result<(), Error> {
    let kind = kind.chars().filter(|character| !crockford::is_between_groups(*character));
    let kind: String = kind.map(|character| character.to_ascii_uppercase()).collect();
    match kind.strip_prefix(KIND).and_then(|number| number.parse::<u32>().ok()) {
        Some(1) => Ok(()),
        Some(2..) => Err(Error::Newer),
        _ => Err(Error::NotCard),
    }
}

/// The secret that cards of one set have together. Cards beyond the threshold must agree with the others.
///
/// # Errors
/// [`Error::Sets`], [`Error::Forged`] or [`Error::Shares`].
pub fn join_cards(cards: &[Card]) -> Result<Secret<32>, Error> {
    for pair in cards.windows(2) {
        let [first, other] = pair else { continue };
        if first.set != other.set {
            return Err(Error::Sets(first.set, other.set));
        }
        if (first.threshold(), first.count) != (other.threshold(), other.count) {
            return Err(Error::Forged);
        }
    }
    shamir::join(cards.iter().map(|card| &card.share)).map_err(Error::Shares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;
    use proptest::prelude::*;

    fn card(threshold: u8, count: u8, index: u8, set: u8) -> Card {
        let values = Secret::filled(|bytes| bytes.iter_mut().zip(0x40..).for_each(|(to, byte)| *to = byte));
        Card { set: [set; 8], count, share: Share::new(threshold, index, values).unwrap() }
    }

    fn bytes(secret: &Secret<32>) -> [u8; 32] {
        secret.expose(|bytes| *bytes)
    }

    fn refused(text: &str) -> Option<Error> {
        Card::decode(text).err()
    }

    #[test]
    fn cards_are_those_of_the_vectors() {
        for case in vectors::cases(include_str!("../../tests/vectors/card.txt")) {
            let share = Share::new(
                case.number("threshold"),
                case.number("index"),
                Secret::take(&mut case.array("share")),
            );
            let card = Card { set: case.array("set"), count: case.number("count"), share: share.unwrap() };
            assert_eq!(*card.encode(), case.text("text"));
            let read = Card::decode(case.text("text")).unwrap();
            assert_eq!(
                (read.set(), read.threshold(), read.count(), read.index()),
                (card.set(), card.threshold(), card.count(), card.index())
            );
            assert_eq!(bytes(read.share.values()), bytes(card.share.values()));
        }
    }

    #[test]
    fn enough_cards_of_a_set_have_the_secret_as_typed() {
        let (secret, cards) = Card::deal(2, 3).unwrap();
        let typed: Vec<_> = cards.iter().map(Card::encode).collect();
        for (first, other) in [(0, 1), (2, 0), (1, 2)] {
            let cards = [Card::decode(&typed[first]).unwrap(), Card::decode(&typed[other]).unwrap()];
            assert_eq!(bytes(&join_cards(&cards).unwrap()), bytes(&secret));
        }
        assert_eq!(bytes(&join_cards(&cards).unwrap()), bytes(&secret));
        assert_ne!(bytes(&secret), bytes(&Card::deal(2, 3).unwrap().0));
    }

    #[test]
    fn a_card_is_read_as_people_type_it() {
        let text = card(2, 3, 1, 7).encode();
        let body = &text[PREFIX.len()..];
        for typed in [
            text.to_string(),
            text.to_lowercase(),
            format!("  {}\n", *text),
            format!("Strongroom\u{2013}Card 1 : {}", body.replace('-', "\n")),
            body.to_owned(),
            body.replace('-', " ").to_lowercase(),
            text.replace('0', "o").replace('1', "l").replace("-l:", "-1:"),
        ] {
            let read = Card::decode(&typed).map(|read| *read.encode() == *text);
            assert_eq!(read, Ok(true), "{typed:?}");
        }
    }

    #[test]
    fn what_is_no_card_is_told_from_a_card_with_a_slip() {
        let text = card(2, 3, 1, 7).encode();
        let body = &text[PREFIX.len()..];
        for (typed, error) in [
            (String::new(), Error::NotCard),
            ("hello".to_owned(), Error::NotCard),
            ("40GJ48-S44MK2-EA1958-NJRB9E-5WR32C-HKRNH0".to_owned(), Error::NotCard),
            (format!("strongroom-key-1:{body}"), Error::NotCard),
            (format!("strongroom-card-0:{body}"), Error::NotCard),
            (format!("strongroom-card:{body}"), Error::NotCard),
            (body[1..].to_owned(), Error::NotCard),
            (format!("strongroom-card-2:{body}"), Error::Newer),
            ("strongroom-card-17:".to_owned(), Error::Newer),
            (PREFIX.to_owned(), Error::Length(0)),
            (text[..text.len() - 1].to_owned(), Error::Length(71)),
            (format!("{}0", *text), Error::Length(73)),
            (format!("{PREFIX}{}", body.replacen('2', "U", 1)), Error::Character('U')),
            (format!("{}:", *text), Error::Character(':')),
        ] {
            assert_eq!(refused(&typed), Some(error), "{typed:?}");
        }
    }

    #[test]
    fn every_wrong_character_and_every_swap_of_two_neighbours_is_noticed() {
        let text = card(2, 3, 1, 7).encode();
        for at in (PREFIX.len()..text.len()).filter(|at| text.as_bytes()[*at] != b'-') {
            for wrong in b"0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
                let mut typed = text.as_bytes().to_vec();
                typed[at] = *wrong;
                let typed = String::from_utf8(typed).unwrap();
                assert_eq!(refused(&typed), (typed != *text).then_some(Error::Check), "{typed}");
            }
            let mut swapped = text.as_bytes().to_vec();
            if at + 1 < text.len() && swapped[at] != swapped[at + 1] && swapped[at + 1] != b'-' {
                swapped.swap(at, at + 1);
                assert_eq!(refused(std::str::from_utf8(&swapped).unwrap()), Some(Error::Check));
            }
        }
    }

    #[test]
    fn numbers_that_no_set_has_are_refused() {
        for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 32), (2, 255)] {
            assert_eq!(Card::deal(threshold, count).err(), Some(Error::Set { threshold, count }));
        }
        assert!(Card::deal(31, 31).is_ok());
        for (threshold, count, index) in [(4, 3, 1), (2, 3, 4), (2, 0, 1)] {
            let text = card(threshold, count, index, 7).encode();
            assert_eq!(refused(&text), Some(Error::Numbers { threshold, count, index }));
        }
    }

    #[test]
    fn cards_that_do_not_belong_together_are_named() {
        let together = |cards: &[Card]| join_cards(cards).err();
        let few = |needs, have| Some(Error::Shares(shamir::Error::TooFew { needs, have }));
        assert_eq!(together(&[]), few(2, 0));
        assert_eq!(together(&[card(3, 5, 1, 7), card(3, 5, 2, 7)]), few(3, 2));
        assert_eq!(
            together(&[card(2, 3, 1, 7), card(2, 3, 1, 7)]),
            Some(Error::Shares(shamir::Error::Twice(1)))
        );
        assert_eq!(together(&[card(2, 3, 1, 7), card(2, 3, 2, 8)]), Some(Error::Sets([7; 8], [8; 8])));
        assert_eq!(together(&[card(2, 3, 1, 7), card(2, 4, 2, 7)]), Some(Error::Forged));
        assert_eq!(together(&[card(2, 3, 1, 7), card(3, 3, 2, 7)]), Some(Error::Forged));
        let (_, mut cards) = Card::deal(2, 3).unwrap();
        cards[2].share = Share::new(2, 3, Secret::generate()).unwrap();
        assert_eq!(together(&cards), Some(Error::Shares(shamir::Error::Differ)));
    }

    #[test]
    fn messages_speak_of_cards() {
        for (error, message) in [
            (Error::NotCard, "it is not a card that strongroom made"),
            (Error::Length(71), "a card has 72 characters after the colon, and this has 71"),
            (Error::Check, "a character of the card is wrong: its check differs"),
            (
                Error::Set { threshold: 1, count: 3 },
                "there is no set of 3 cards of which 1 are enough: of 2 to 31 cards, at least 2 and at most all",
            ),
            (
                Error::Sets([7; 8], [8; 8]),
                "the cards are of different sets: 0707070707070707 and 0808080808080808",
            ),
            (Error::Shares(shamir::Error::TooFew { needs: 3, have: 2 }), "it takes 3 cards; given: 2"),
            (Error::Shares(shamir::Error::Twice(2)), "card 2 is there twice"),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_read_as_a_card_by_accident(text in "\\PC*") {
            prop_assert!(Card::decode(&text).is_err());
            let marked = format!("{PREFIX}{text}");
            prop_assert!(Card::decode(&marked).is_err());
        }
    }
}
