//! Reads the text files of `tests/vectors`: blocks of `name = value` lines, `#` for comments.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

/// One block of a file of vectors.
pub(crate) struct Case<'a>(BTreeMap<&'a str, &'a str>);

/// The blocks of a file, of which there is at least one.
pub(crate) fn cases(text: &str) -> Vec<Case<'_>> {
    let mut cases = vec![Case(BTreeMap::new())];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.is_empty() {
            cases.push(Case(BTreeMap::new()));
        } else {
            let (name, value) = line.split_once(" =").expect("a line is `name = value`");
            let last = cases.last_mut().unwrap();
            assert!(last.0.insert(name, value.trim_start()).is_none(), "{name} stands twice in a block");
        }
    }
    cases.retain(|case| !case.0.is_empty());
    assert!(!cases.is_empty());
    cases
}

impl<'a> Case<'a> {
    pub(crate) fn text(&self, name: &str) -> &'a str {
        self.0.get(name).unwrap_or_else(|| panic!("the block has {name}"))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether Wycheproof calls it valid.
    pub(crate) fn is_valid(&self) -> bool {
        match self.text("result") {
            "valid" => true,
            "invalid" => false,
            other => panic!("{other} is no result"),
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        HEXLOWER.decode(self.text(name).as_bytes()).unwrap()
    }

    pub(crate) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap_or_else(|_| panic!("{name} has {N} bytes"))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> T {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} is a number"))
    }
}

/// `length` bytes 0, 1, .. 250, 0, 1, ..
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}
