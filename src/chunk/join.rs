//! Where the bytes of a file's chunks go when it is laid out again.
//!
//! A file's chunks hold its data end to end. In a file without holes a chunk's place is the sum of
//! the lengths before it; in a sparse file the data is that of its runs alone, so a chunk may be
//! spread over several runs, and what lies between them is never written.

use std::fmt;
use std::ops::Range;

/// Why chunks don't make the file that they should.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The runs are empty, not in order, touch, or go beyond the file's end.
    Runs,
    /// The chunks hold more bytes than the file's data.
    TooMuch,
    /// The chunks hold fewer bytes than the file's data: so many are missing.
    TooLittle {
        /// How many.
        missing: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs => write!(f, "the data runs of a sparse file are out of order or out of bounds"),
            Self::TooMuch => write!(f, "the chunks of a file hold more than the file"),
            Self::TooLittle { missing } => {
                write!(f, "the chunks of a file hold {missing} bytes less than the file")
            }
        }
    }
}

impl std::error::Error for Error {}

/// A part of a chunk and where it goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Where in the file, in bytes from its start.
    pub offset: u64,
    /// Which bytes of the chunk.
    pub in_chunk: Range<usize>,
}

/// Lays chunks end to end: tells for one length after the other where those bytes go.
///
/// It needs nothing but lengths, so places can be told before any chunk was read, and chunks written
/// in any order.
#[derive(Clone)]
pub struct Joiner<Runs> {
    /// What is left of the run that is being filled, as places in the file.
    run: Range<u64>,
    /// The runs after it: offset and length.
    runs: Runs,
    /// How much data is yet to come.
    missing: u64,
}

impl Joiner<std::iter::Empty<(u64, u64)>> {
    /// For a file of `size` bytes without holes.
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self { run: 0..size, runs: std::iter::empty(), missing: size }
    }
}

impl<Runs: Iterator<Item = (u64, u64)> + Clone> Joiner<Runs> {
    /// For a file of `size` bytes whose data is that of `runs`, each an offset and a length.
    ///
    /// # Errors
    /// [`Error::Runs`] unless runs are sorted, not empty, don't touch and end within `size`.
    pub fn sparse(size: u64, runs: Runs) -> Result<Self, Error> {
        let (mut end, mut missing) = (None, 0);
        for (offset, length) in runs.clone() {
            let after = offset.checked_add(length).filter(|&after| length > 0 && after <= size);
            if end.is_some_and(|end| offset <= end) || after.is_none() {
                return Err(Error::Runs);
            }
            end = after;
            missing += length;
        }
        Ok(Self { run: 0..0, runs, missing })
    }

    /// Where the bytes of the next chunk go: `length` of them, in order, in as many pieces as it has
    /// to be parted into. `place` is called for each.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if the file has no room for them, before anything is placed; whatever
    /// `place` returns.
    pub fn next<E: From<Error>>(
        &mut self,
        length: usize,
        mut place: impl FnMut(Piece) -> Result<(), E>,
    ) -> Result<(), E> {
        let all = u64::try_from(length).map_err(|_| Error::TooMuch)?;
        self.missing = self.missing.checked_sub(all).ok_or(Error::TooMuch)?;
        let mut done = 0;
        while done < length {
            if self.run.is_empty() {
                let (offset, length) = self.runs.next().ok_or(Error::TooMuch)?;
                self.run = offset..offset.saturating_add(length);
            }
            let offset = self.run.start;
            let room = usize::try_from(self.run.end - offset).unwrap_or(usize::MAX);
            let taken = room.min(length - done);
            self.run.start += u64::try_from(taken).map_err(|_| Error::TooMuch)?;
            place(Piece { offset, in_chunk: done..done + taken })?;
            done += taken;
        }
        Ok(())
    }

    /// How many bytes of data are yet to come.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Ends the file.
    ///
    /// # Errors
    /// [`Error::TooLittle`] if there is data to come.
    pub fn finish(self) -> Result<(), Error> {
        match self.missing {
            0 => Ok(()),
            missing => Err(Error::TooLittle { missing }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pieces<R: Iterator<Item = (u64, u64)> + Clone>(
        joiner: &mut Joiner<R>,
        length: usize,
    ) -> Result<Vec<Piece>, Error> {
        let mut pieces = Vec::new();
        joiner.next(length, |piece| {
            pieces.push(piece);
            Ok::<(), Error>(())
        })?;
        Ok(pieces)
    }

    #[test]
    fn chunks_of_a_file_without_holes_lie_end_to_end() {
        let mut joiner = Joiner::new(10);
        assert_eq!(pieces(&mut joiner, 4), Ok(vec![Piece { offset: 0, in_chunk: 0..4 }]));
        assert_eq!(joiner.clone().finish(), Err(Error::TooLittle { missing: 6 }));
        assert_eq!(pieces(&mut joiner, 7), Err(Error::TooMuch));
        let mut joiner = Joiner::new(10);
        assert!(pieces(&mut joiner, 4).is_ok());
        assert_eq!(pieces(&mut joiner, 6), Ok(vec![Piece { offset: 4, in_chunk: 0..6 }]));
        assert_eq!(joiner.finish(), Ok(()));
        assert_eq!(Joiner::new(0).finish(), Ok(()));
    }

    #[test]
    fn a_chunk_is_parted_at_a_hole() {
        let mut joiner = Joiner::sparse(100, [(10, 5), (50, 50)].into_iter()).unwrap();
        let expected = vec![Piece { offset: 10, in_chunk: 0..5 }, Piece { offset: 50, in_chunk: 5..8 }];
        assert_eq!(pieces(&mut joiner, 8), Ok(expected));
        assert_eq!(pieces(&mut joiner, 47), Ok(vec![Piece { offset: 53, in_chunk: 0..47 }]));
        assert_eq!(joiner.finish(), Ok(()));
    }

    #[test]
    fn runs_out_of_order_or_bounds_are_refused() {
        let refused =
            |runs: &[(u64, u64)]| Joiner::sparse(100, runs.iter().copied()).err() == Some(Error::Runs);
        assert!(!refused(&[]));
        assert!(!refused(&[(0, 10), (11, 89)]));
        for runs in [
            &[(0, 0)][..],
            &[(0, 101)],
            &[(50, 51)],
            &[(u64::MAX, 1)],
            &[(0, 10), (10, 5)],
            &[(20, 5), (0, 5)],
        ] {
            assert!(refused(runs), "{runs:?}");
        }
    }

    proptest! {
        #[test]
        fn a_sparse_file_is_laid_out_as_it_was(
            holes_and_runs in prop::collection::vec((1_u64..50, 1_u64..50), 0..20),
            tail in 0_u64..50,
            cuts in prop::collection::vec(1_usize..80, 1..10),
        ) {
            let (mut file, mut runs, mut data) = (Vec::new(), Vec::new(), Vec::new());
            for (hole, run) in holes_and_runs {
                file.resize(file.len() + usize::try_from(hole).unwrap(), 0);
                runs.push((u64::try_from(file.len()).unwrap(), run));
                for _ in 0..run {
                    let byte = u8::try_from(data.len() % 255 + 1).unwrap();
                    file.push(byte);
                    data.push(byte);
                }
            }
            file.resize(file.len() + usize::try_from(tail).unwrap(), 0);
            let mut joiner = Joiner::sparse(u64::try_from(file.len()).unwrap(), runs.into_iter()).unwrap();
            let mut laid_out = vec![0; file.len()];
            let mut rest = &data[..];
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, after) = rest.split_at(cut.min(rest.len()));
                rest = after;
                for piece in pieces(&mut joiner, chunk.len()).unwrap() {
                    let start = usize::try_from(piece.offset).unwrap();
                    laid_out[start..start + piece.in_chunk.len()].copy_from_slice(&chunk[piece.in_chunk]);
                }
            }
            prop_assert_eq!(joiner.finish(), Ok(()));
            prop_assert_eq!(laid_out, file);
        }
    }
}
