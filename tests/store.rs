//! One suite that every store passes.

#![allow(clippy::print_stdout, reason = "a random case prints its seed")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::thread;

use strongroom::id::ObjectName;
use strongroom::store::Error;
use strongroom::store::Faulty;
use strongroom::store::Listed;
use strongroom::store::Local;
use strongroom::store::Memory;
use strongroom::store::SealedDraft;
use strongroom::store::Store;
use strongroom::store::Target;
use tempfile::TempDir;

/// An empty store, and the directory that goes with it.
struct Made {
    store: Box<dyn Store>,
    _directory: Option<TempDir>,
}

fn local() -> Made {
    let directory = tempfile::tempdir().unwrap();
    let store = Local::create(&directory.path().join("vault")).unwrap();
    Made { store: Box::new(store), _directory: Some(directory) }
}

fn memory() -> Made {
    Made { store: Box::new(Memory::new()), _directory: None }
}

fn faulty_without_a_fault() -> Made {
    Made { store: Box::new(Faulty::new(Memory::new())), _directory: None }
}

/// A sealed file in the making that nothing was put to yet.
fn sealed_draft() -> Made {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::file(&directory.path().join("x.strongroom"));
    let store = SealedDraft::spooled(directory.path(), target).unwrap();
    Made { store: Box::new(store), _directory: Some(directory) }
}

/// Runs every case on every store, each a test of its own.
macro_rules! suite {
    ($($case:ident)*) => {
        suite!(@store local: $($case)*);
        suite!(@store memory: $($case)*);
        suite!(@store faulty_without_a_fault: $($case)*);
    };
    (@store $store:ident: $($case:ident)*) => {
        mod $store {
            $(
                #[test]
                fn $case() {
                    super::$case(&*super::$store().store);
                }
            )*
        }
    };
}

suite! {
    what_was_put_is_got
    an_empty_object_is_an_object
    a_second_put_changes_nothing
    what_is_not_there_is_missing
    a_range_is_read_whole_or_not_at_all
    an_object_longer_than_allowed_is_not_read
    a_list_is_sorted_and_holds_what_begins_with_the_prefix
    a_list_below_nothing_is_empty
    what_was_removed_is_gone_and_can_be_put_again
    of_many_puts_of_one_name_one_succeeds
    many_threads_put_and_read_at_once
    a_new_store_is_writable_and_has_no_strangers
    any_sequence_of_operations_agrees_with_a_map
}

// A sealed file has only the names that the format gives it, so the cases that put others aren't for it.
suite! {
    @store sealed_draft:
    an_empty_object_is_an_object
    a_second_put_changes_nothing
    what_is_not_there_is_missing
    a_range_is_read_whole_or_not_at_all
    a_list_below_nothing_is_empty
    what_was_removed_is_gone_and_can_be_put_again
    of_many_puts_of_one_name_one_succeeds
    many_threads_put_and_read_at_once
    a_new_store_is_writable_and_has_no_strangers
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn listed(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix).unwrap().into_iter().map(|each| each.name.to_string()).collect()
}

fn what_was_put_is_got(store: &dyn Store) {
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    for object in ["README.txt", "a/0000-ab", "p/00/7c/ab", "2/a/0000-ab"] {
        store.put(&name(object), &bytes).unwrap();
        assert!(store.get(&name(object), 3_000_001).unwrap() == bytes, "{object}");
        assert_eq!(store.size(&name(object)).unwrap(), 3_000_001);
    }
}

fn an_empty_object_is_an_object(store: &dyn Store) {
    store.put(&name("a/empty"), b"").unwrap();
    assert_eq!(store.get(&name("a/empty"), 0).unwrap(), b"");
    assert_eq!(store.get_range(&name("a/empty"), 0..0).unwrap(), b"");
    assert_eq!(store.list("a/").unwrap(), [Listed { name: name("a/empty"), bytes: 0 }]);
}

fn a_second_put_changes_nothing(store: &dyn Store) {
    store.put(&name("a/1"), b"first").unwrap();
    for bytes in [&b"second"[..], b"first", b""] {
        assert!(matches!(store.put(&name("a/1"), bytes), Err(Error::Exists { .. })));
    }
    assert_eq!(store.get(&name("a/1"), 9).unwrap(), b"first");
}

fn what_is_not_there_is_missing(store: &dyn Store) {
    store.put(&name("a/1"), b"x").unwrap();
    for object in ["a/2", "b/1", "b/c/d/1", "1"] {
        let object = name(object);
        assert!(matches!(store.get(&object, 9), Err(Error::Missing { name }) if name == object));
        assert!(matches!(store.get_range(&object, 0..0), Err(Error::Missing { .. })));
        assert!(matches!(store.size(&object), Err(Error::Missing { .. })));
        assert!(matches!(store.remove(&object), Err(Error::Missing { .. })));
    }
}

fn a_range_is_read_whole_or_not_at_all(store: &dyn Store) {
    let object = name("p/00/ab/1");
    store.put(&object, b"0123456789").unwrap();
    for (range, bytes) in [(0..10, "0123456789"), (3..5, "34"), (9..10, "9"), (4..4, ""), (10..10, "")] {
        assert_eq!(store.get_range(&object, range).unwrap(), bytes.as_bytes());
    }
    #[allow(clippy::reversed_empty_ranges, reason = "a backward range is one of the refusals")]
    for range in [0..11, 10..11, 11..11, 5..u64::MAX, u64::MAX - 1..u64::MAX, 5..4] {
        assert!(matches!(store.get_range(&object, range.clone()), Err(Error::Short { .. })), "{range:?}");
    }
}

fn an_object_longer_than_allowed_is_not_read(store: &dyn Store) {
    store.put(&name("a"), b"0123456789").unwrap();
    assert!(matches!(store.get(&name("a"), 9), Err(Error::TooLarge { .. })));
    assert!(matches!(store.get(&name("a"), 0), Err(Error::TooLarge { .. })));
    assert_eq!(store.get(&name("a"), 10).unwrap().len(), 10);
    assert_eq!(store.get(&name("a"), u64::MAX).unwrap().len(), 10);
}

fn a_list_is_sorted_and_holds_what_begins_with_the_prefix(store: &dyn Store) {
    let names = ["s/01/b", "s/01-1", "s/02/a", "README.txt", "s/01/a", "2/s/01/a", "s/01/c/d", "a/9", "a/10"];
    for object in names {
        store.put(&name(object), object.as_bytes()).unwrap();
    }
    // By bytes, so `-` comes before `/`, although folders are walked one by one.
    let all = ["2/s/01/a", "README.txt", "a/10", "a/9", "s/01-1", "s/01/a", "s/01/b", "s/01/c/d", "s/02/a"];
    assert_eq!(listed(store, ""), all);
    assert_eq!(listed(store, "s/"), all[4..]);
    assert_eq!(listed(store, "s/01/"), all[5..8]);
    assert_eq!(listed(store, "s/01"), all[4..8]);
    assert_eq!(listed(store, "a/1"), ["a/10"]);
    for each in store.list("").unwrap() {
        assert_eq!(each.bytes, u64::try_from(each.name.as_str().len()).unwrap());
    }
}

fn a_list_below_nothing_is_empty(store: &dyn Store) {
    assert_eq!(listed(store, ""), [""; 0]);
    store.put(&name("a/1"), b"x").unwrap();
    for prefix in ["b/", "a/1/", "/", "../", "a/../a/", "./a/", ".", "a//"] {
        assert_eq!(listed(store, prefix), [""; 0], "{prefix}");
    }
}

fn what_was_removed_is_gone_and_can_be_put_again(store: &dyn Store) {
    store.put(&name("p/00/1"), b"old").unwrap();
    store.put(&name("p/00/2"), b"stays").unwrap();
    store.remove(&name("p/00/1")).unwrap();
    assert!(matches!(store.get(&name("p/00/1"), 9), Err(Error::Missing { .. })));
    assert_eq!(listed(store, "p/"), ["p/00/2"]);
    store.put(&name("p/00/1"), b"new").unwrap();
    assert_eq!(store.get(&name("p/00/1"), 9).unwrap(), b"new");
}

fn of_many_puts_of_one_name_one_succeeds(store: &dyn Store) {
    let put = |writer: u8| store.put(&name("p/00/1"), &[writer; 100_000]);
    let winners: Vec<u8> = thread::scope(|scope| {
        let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || (writer, put(writer)))).collect();
        let ended = writers.into_iter().map(|each| each.join().unwrap());
        ended
            .filter_map(|(writer, result)| match result {
                Ok(()) => Some(writer),
                Err(Error::Exists { .. }) => None,
                Err(error) => panic!("writer {writer}: {error}"),
            })
            .collect()
    });
    assert_eq!(winners.len(), 1);
    assert!(store.get(&name("p/00/1"), 100_000).unwrap() == [winners[0]; 100_000]);
    assert_eq!(listed(store, ""), ["p/00/1"]);
}

fn many_threads_put_and_read_at_once(store: &dyn Store) {
    thread::scope(|scope| {
        for thread in 0..6_u8 {
            scope.spawn(move || {
                for number in 0..20_u8 {
                    let object = name(&format!("p/{}/{thread}-{number}", number % 3));
                    store.put(&object, &[thread, number]).unwrap();
                    assert_eq!(store.get(&object, 2).unwrap(), [thread, number]);
                    assert!(store.list("p/").unwrap().iter().any(|each| each.name == object));
                }
            });
        }
    });
    assert_eq!(store.list("").unwrap().len(), 120);
}

fn a_new_store_is_writable_and_has_no_strangers(store: &dyn Store) {
    store.writable().unwrap();
    store.put(&name("a/1"), b"x").unwrap();
    store.writable().unwrap();
    assert_eq!(store.strangers().unwrap(), 0);
    assert!(!store.place().is_empty());
}

/// Numbers that follow from a seed. Source: SplitMix64, Steele et al., OOPSLA 2014.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

fn any_sequence_of_operations_agrees_with_a_map(store: &dyn Store) {
    let seed = RandomState::new().hash_one("store");
    println!("seed {seed}");
    let mut numbers = Numbers(seed);
    let mut map: BTreeMap<ObjectName, Vec<u8>> = BTreeMap::new();
    for step in 0..400 {
        let object = name(&format!("{}/{}/x", ["a", "p", "2/a"][step % 3], numbers.below(5)));
        let held = map.get(&object);
        match numbers.below(5) {
            0 | 1 => {
                let bytes =
                    vec![u8::try_from(step % 251).unwrap(); usize::try_from(numbers.below(40)).unwrap()];
                let put = store.put(&object, &bytes);
                assert_eq!(put.is_ok(), held.is_none(), "step {step}");
                map.entry(object).or_insert(bytes);
            }
            2 => {
                assert_eq!(store.remove(&object).is_ok(), held.is_some(), "step {step}");
                map.remove(&object);
            }
            3 => assert_eq!(store.get(&object, 40).ok().as_ref(), held, "step {step}"),
            _ => {
                let (start, end) = (numbers.below(20), numbers.below(50));
                let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
                let expected = held.and_then(|bytes| bytes.get(range)).map(<[u8]>::to_vec);
                assert_eq!(store.get_range(&object, start..end).ok(), expected, "step {step}");
            }
        }
        let prefix = ["", "a/", "p/", "2/", "2/a/"][step % 5];
        let expected: Vec<_> = map
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, bytes)| Listed { name: name.clone(), bytes: u64::try_from(bytes.len()).unwrap() })
            .collect();
        assert_eq!(store.list(prefix).unwrap(), expected, "step {step}");
    }
}
