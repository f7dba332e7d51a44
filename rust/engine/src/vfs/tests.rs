//! The promises of [`Vfs`] for held directories, locks and shared pages, tested on every
//! implementation.
//!
//! Tests that need several processes are in `tests/os_locks_and_pages.rs`.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use super::os::OsVfs;
use super::sim::{Lie, LyingVfs, RecordingVfs, SimVfs};
use super::*;

/// A time limit that is far longer than any operation here takes.
const LIMIT: Duration = Duration::from_mins(1);
/// The timeout of waits that only a wake-up or a change may end.
const HOUR: Duration = Duration::from_hours(1);
const PAGE_BYTES: u64 = PAGE_WORDS as u64 * 8;

/// Runs each of these functions as a test of each file system, in an empty directory.
macro_rules! expectations {
    ($($name:ident)*) => {
        mod os { $(#[test] fn $name() { super::on_os(super::$name); })* }
        mod memory { $(#[test] fn $name() { super::on_memory(super::$name); })* }
        mod tracked { $(#[test] fn $name() { super::on_tracked(super::$name); })* }
        mod recording { $(#[test] fn $name() { super::on_recording(super::$name); })* }
        mod lying { $(#[test] fn $name() { super::on_lying(super::$name); })* }
    };
}

expectations! {
    an_exclusive_lock_has_one_holder
    a_shared_lock_is_compatible_with_shared_locks_only
    a_lock_acquired_twice_is_released_once
    a_downgrade_admits_other_shared_holders
    a_failed_upgrade_releases_the_lock
    a_dropped_lock_file_is_unlocked
    a_directory_lock_is_independent_of_locks_on_its_files
    a_lock_file_is_created_only_on_request
    opening_a_lock_file_keeps_its_content
    a_lock_follows_the_file_and_not_its_name
    a_lock_file_is_in_place_until_it_is_deleted_or_replaced
    concurrent_threads_create_one_lock_file
    a_page_is_created_once_and_filled_with_zeros
    a_file_of_another_size_is_refused_as_a_page
    each_operation_changes_its_word_only
    words_out_of_range_read_as_zero
    all_mappings_of_a_page_share_its_words
    a_page_opened_for_reading_can_be_written
    a_new_page_at_the_same_path_has_its_own_words
    a_page_is_in_place_until_it_is_deleted_or_replaced
    concurrent_additions_are_all_counted
    a_wait_for_a_word_that_has_changed_ends_at_once
    a_wait_lasts_until_its_timeout
    a_wake_ends_every_wait_for_the_word
    files_of_the_test_directory_can_be_shared
    a_held_directory_contains_the_same_files_as_its_path
    a_held_directory_is_in_place_while_its_path_names_it
}

fn on_os(check: fn(&Arc<dyn Vfs>, &Path)) {
    let dir = tempfile::tempdir().unwrap();
    check(&(Arc::new(OsVfs::new()) as Arc<dyn Vfs>), dir.path());
}

fn on(vfs: impl Vfs, check: fn(&Arc<dyn Vfs>, &Path)) {
    check(&(Arc::new(vfs) as Arc<dyn Vfs>), Path::new("/"));
}

fn on_memory(check: fn(&Arc<dyn Vfs>, &Path)) {
    on(SimVfs::memory(), check);
}

fn on_tracked(check: fn(&Arc<dyn Vfs>, &Path)) {
    on(SimVfs::tracked(1), check);
}

fn on_recording(check: fn(&Arc<dyn Vfs>, &Path)) {
    on(RecordingVfs::new(Arc::new(SimVfs::tracked(1))), check);
}

fn on_lying(check: fn(&Arc<dyn Vfs>, &Path)) {
    on(
        LyingVfs::new(Arc::new(SimVfs::tracked(1)), Lie::Files),
        check,
    );
}

/// Two openings of a lock file.
fn pair(vfs: &Arc<dyn Vfs>, dir: &Path) -> [Arc<dyn LockFile>; 2] {
    let path = dir.join("lock");
    [true, false].map(|create| vfs.open_lock(&path, create).unwrap())
}

fn page(vfs: &Arc<dyn Vfs>, dir: &Path) -> (Arc<dyn SharedPage>, PathBuf) {
    let path = dir.join("page");
    (vfs.open_page(&path, OpenMode::CreateNew).unwrap(), path)
}

fn write(vfs: &Arc<dyn Vfs>, path: &Path, bytes: &[u8]) {
    let file = vfs.open(path, OpenMode::CreateNew).unwrap();
    write_all_at(&*file, &[IoSlice::new(bytes)], 0).unwrap();
}

/// Run `work` on a thread and return its result. Panic if it takes longer than [`LIMIT`].
fn run_within_limit<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    outcome.recv_timeout(LIMIT).unwrap()
}

fn a_held_directory_contains_the_same_files_as_its_path(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (store, inner) = (dir.join("store"), dir.join("store/inner"));
    vfs.create_dir(&store).unwrap();
    let held = vfs.hold(&store).unwrap();
    held.create_dir(&inner).unwrap();
    write(&held, &inner.join("a"), b"a");
    held.rename(&inner.join("a"), &store.join("b")).unwrap();
    held.sync_dir(&inner).unwrap();
    held.sync_dir(&store).unwrap();
    held.sync_dir(dir).unwrap();
    assert_eq!(vfs.list(&store).unwrap(), ["b", "inner"]);
    assert_eq!(held.list(&store).unwrap(), ["b", "inner"]);
    assert!(held.list(&inner).unwrap().is_empty());
    assert_eq!(held.entry(&store.join("b")).unwrap(), Some(Entry::File(1)));
    assert_eq!(held.entry(&store).unwrap(), Some(Entry::Directory));
    assert_eq!(held.entry(&inner.join("a")).unwrap(), None);
    assert_eq!(held.entry(&store.join("none/a")).unwrap(), None);
    assert_eq!(held.unshareable(&store).unwrap(), None);
    let lock = held.open_lock(&store, false).unwrap();
    assert!(lock.try_lock(Hold::Exclusive).unwrap() && lock.is_in_place().unwrap());
    let by_path = vfs.open_lock(&store, false).unwrap();
    assert!(!by_path.try_lock(Hold::Shared).unwrap());
    held.remove(&store.join("b")).unwrap();
    assert_eq!(vfs.list(&store).unwrap(), ["inner"]);
    assert!(vfs.hold(&dir.join("none")).is_err());
}

fn a_held_directory_is_in_place_while_its_path_names_it(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (store, inner) = (dir.join("store"), dir.join("store/inner"));
    vfs.create_dir(&store).unwrap();
    vfs.create_dir(&inner).unwrap();
    let held = vfs.hold(&store).unwrap();
    assert!(held.is_in_place(&store).unwrap() && held.is_in_place(&inner).unwrap());
    assert!(vfs.is_in_place(&store).unwrap() && held.is_in_place(dir).unwrap());
}

/// `move_directory` moves a directory as another program would: the trait has no call for that.
fn after_a_directory_was_replaced(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    move_directory: impl Fn(&Path, &Path),
) {
    let (store, away) = (dir.join("store"), dir.join("away"));
    let inner = store.join("inner");
    vfs.create_dir(&store).unwrap();
    vfs.create_dir(&inner).unwrap();
    let held = vfs.hold(&store).unwrap();
    write(&held, &inner.join("before"), b"");
    let lock = held.open_lock(&store, false).unwrap();
    assert!(lock.try_lock(Hold::Exclusive).unwrap());

    move_directory(&store, &away);
    assert!(!held.is_in_place(&store).unwrap() && !held.is_in_place(&inner).unwrap());
    vfs.create_dir(&store).unwrap();
    vfs.create_dir(&inner).unwrap();
    assert!(!held.is_in_place(&store).unwrap() && !held.is_in_place(&inner).unwrap());
    assert!(!lock.is_in_place().unwrap());
    let other = vfs.open_lock(&store, false).unwrap();
    assert!(other.try_lock(Hold::Exclusive).unwrap());
    let same = vfs.open_lock(&away, false).unwrap();
    assert!(!same.try_lock(Hold::Shared).unwrap());

    write(&held, &inner.join("after"), b"");
    held.rename(&inner.join("before"), &store.join("renamed"))
        .unwrap();
    held.sync_dir(&inner).unwrap();
    held.sync_dir(&store).unwrap();
    assert_eq!(vfs.list(&store).unwrap(), ["inner"]);
    assert!(vfs.list(&inner).unwrap().is_empty());
    assert_eq!(vfs.list(&away).unwrap(), ["inner", "renamed"]);
    assert_eq!(vfs.list(&away.join("inner")).unwrap(), ["after"]);

    move_directory(&store, &dir.join("other"));
    move_directory(&away, &store);
    assert!(held.is_in_place(&store).unwrap() && held.is_in_place(&inner).unwrap());
    assert!(lock.is_in_place().unwrap());
}

#[test]
fn a_held_directory_on_the_os_is_reached_after_its_path_names_another() {
    on_os(|vfs, dir| {
        after_a_directory_was_replaced(vfs, dir, |from, to| std::fs::rename(from, to).unwrap());
    });
}

#[test]
fn a_simulated_held_directory_is_reached_after_its_path_names_another() {
    for sim in [SimVfs::memory(), SimVfs::tracked(1)] {
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        after_a_directory_was_replaced(&vfs, Path::new("/"), |from, to| {
            sim.move_outside(from, to).unwrap();
        });
    }
}

#[test]
fn a_moved_simulated_directory_keeps_its_synced_and_unsynced_names() {
    use super::sim::Persist;
    let sim = SimVfs::tracked(1);
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    let store = Path::new("/store");
    vfs.create_dir(store).unwrap();
    vfs.sync_dir(Path::new("/")).unwrap();
    write(&vfs, &store.join("synced"), b"");
    vfs.sync_dir(store).unwrap();
    write(&vfs, &store.join("unsynced"), b"");
    sim.move_outside(store, "/away").unwrap();
    let left = |persist| sim.power_cut(persist).list(Path::new("/away")).unwrap();
    assert_eq!(left(Persist::Nothing), ["synced"]);
    assert_eq!(left(Persist::Everything), ["synced", "unsynced"]);
    assert!(sim.move_outside("/away", "/away/inner").is_err());
    assert!(sim.move_outside("/none", "/store").is_err());
}

fn an_exclusive_lock_has_one_holder(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, other] = pair(vfs, dir);
    assert!(one.try_lock(Hold::Exclusive).unwrap());
    assert!(!other.try_lock(Hold::Exclusive).unwrap());
    assert!(!other.try_lock(Hold::Shared).unwrap());
    one.unlock().unwrap();
    assert!(other.try_lock(Hold::Exclusive).unwrap());
    assert!(!one.try_lock(Hold::Shared).unwrap());
}

fn a_shared_lock_is_compatible_with_shared_locks_only(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, other] = pair(vfs, dir);
    let third = vfs.open_lock(&dir.join("lock"), false).unwrap();
    assert!(one.try_lock(Hold::Shared).unwrap());
    assert!(other.try_lock(Hold::Shared).unwrap());
    assert!(!third.try_lock(Hold::Exclusive).unwrap());
    one.unlock().unwrap();
    assert!(!third.try_lock(Hold::Exclusive).unwrap());
    other.unlock().unwrap();
    assert!(third.try_lock(Hold::Exclusive).unwrap());
}

fn a_lock_acquired_twice_is_released_once(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, other] = pair(vfs, dir);
    for hold in [Hold::Exclusive, Hold::Shared] {
        one.unlock().unwrap();
        assert!(one.try_lock(hold).unwrap() && one.try_lock(hold).unwrap());
        assert!(!other.try_lock(Hold::Exclusive).unwrap());
        one.unlock().unwrap();
        assert!(other.try_lock(Hold::Exclusive).unwrap());
        other.unlock().unwrap();
    }
}

fn a_downgrade_admits_other_shared_holders(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, other] = pair(vfs, dir);
    assert!(one.try_lock(Hold::Exclusive).unwrap());
    assert!(one.try_lock(Hold::Shared).unwrap());
    assert!(!other.try_lock(Hold::Exclusive).unwrap());
    assert!(other.try_lock(Hold::Shared).unwrap());
}

fn a_failed_upgrade_releases_the_lock(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, other] = pair(vfs, dir);
    assert!(one.try_lock(Hold::Shared).unwrap());
    assert!(one.try_lock(Hold::Exclusive).unwrap());
    assert!(!other.try_lock(Hold::Shared).unwrap());
    assert!(one.try_lock(Hold::Shared).unwrap());
    assert!(other.try_lock(Hold::Shared).unwrap());
    assert!(!one.try_lock(Hold::Exclusive).unwrap());
    assert!(other.try_lock(Hold::Exclusive).unwrap());
}

fn a_dropped_lock_file_is_unlocked(vfs: &Arc<dyn Vfs>, dir: &Path) {
    for hold in [Hold::Exclusive, Hold::Shared] {
        let [one, other] = pair(vfs, dir);
        assert!(one.try_lock(hold).unwrap());
        drop(one);
        assert!(other.try_lock(Hold::Exclusive).unwrap());
    }
}

fn a_directory_lock_is_independent_of_locks_on_its_files(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let inner = dir.join("inner");
    vfs.create_dir(&inner).unwrap();
    let open = |path: &Path, create| vfs.open_lock(path, create).unwrap();
    let locks = [
        open(dir, false),
        open(&inner, true),
        open(&inner.join("lock"), true),
    ];
    for lock in &locks {
        assert!(lock.try_lock(Hold::Exclusive).unwrap());
        assert!(lock.is_in_place().unwrap());
    }
    for path in [dir, &inner, &inner.join("lock")] {
        assert!(!open(path, false).try_lock(Hold::Shared).unwrap());
    }
    assert_eq!(vfs.list(&inner).unwrap(), ["lock"]);
}

fn a_lock_file_is_created_only_on_request(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let path = dir.join("lock");
    let missing = vfs.open_lock(&path, false).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    assert_eq!(vfs.entry(&path).unwrap(), None);
    vfs.open_lock(&path, true).unwrap();
    assert_eq!(vfs.entry(&path).unwrap(), Some(Entry::File(0)));
    let nowhere = vfs.open_lock(&dir.join("no/lock"), true).unwrap_err();
    assert_eq!(nowhere.kind(), io::ErrorKind::NotFound);
}

fn opening_a_lock_file_keeps_its_content(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let path = dir.join("lock");
    write(vfs, &path, b"who has it");
    for create in [true, false] {
        let lock = vfs.open_lock(&path, create).unwrap();
        assert!(lock.try_lock(Hold::Exclusive).unwrap());
    }
    assert_eq!(vfs.entry(&path).unwrap(), Some(Entry::File(10)));
}

fn a_lock_follows_the_file_and_not_its_name(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let [one, _] = pair(vfs, dir);
    assert!(one.try_lock(Hold::Exclusive).unwrap());
    vfs.rename(&dir.join("lock"), &dir.join("moved")).unwrap();
    let moved = vfs.open_lock(&dir.join("moved"), false).unwrap();
    assert!(!moved.try_lock(Hold::Shared).unwrap());
    let new = vfs.open_lock(&dir.join("lock"), true).unwrap();
    assert!(new.try_lock(Hold::Exclusive).unwrap());
}

fn a_lock_file_is_in_place_until_it_is_deleted_or_replaced(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let path = dir.join("lock");
    let [first, _] = pair(vfs, dir);
    assert!(first.is_in_place().unwrap());
    vfs.remove(&path).unwrap();
    assert!(!first.is_in_place().unwrap());

    let second = vfs.open_lock(&path, true).unwrap();
    assert!(second.is_in_place().unwrap() && !first.is_in_place().unwrap());
    assert_ne!(first.number().unwrap(), second.number().unwrap());
    let again = vfs.open_lock(&path, false).unwrap();
    assert_eq!(second.number().unwrap(), again.number().unwrap());
    write(vfs, &dir.join("other"), b"");
    vfs.rename(&dir.join("other"), &path).unwrap();
    assert!(!second.is_in_place().unwrap());

    let third = vfs.open_lock(&path, false).unwrap();
    vfs.rename(&path, &dir.join("away")).unwrap();
    assert!(!third.is_in_place().unwrap());
    vfs.rename(&dir.join("away"), &path).unwrap();
    assert!(third.is_in_place().unwrap());
}

fn concurrent_threads_create_one_lock_file(vfs: &Arc<dyn Vfs>, dir: &Path) {
    const THREADS: usize = 4;
    for round in 0..200 {
        let path = dir.join(round.to_string());
        let start = std::sync::Barrier::new(THREADS);
        let acquired = std::thread::scope(|scope| {
            let openers = [(); THREADS].map(|()| {
                scope.spawn(|| {
                    start.wait();
                    let lock = vfs.open_lock(&path, true).unwrap();
                    (lock.try_lock(Hold::Exclusive).unwrap(), lock)
                })
            });
            let openings = openers.map(|opener| opener.join().unwrap());
            openings
                .iter()
                .filter(|(is_acquired, _)| *is_acquired)
                .count()
        });
        assert_eq!(acquired, 1);
    }
}

fn a_page_is_created_once_and_filled_with_zeros(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let path = dir.join("page");
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        let missing = vfs.open_page(&path, mode).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
    let made = vfs.open_page(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(vfs.entry(&path).unwrap(), Some(Entry::File(PAGE_BYTES)));
    assert!((0..PAGE_WORDS).all(|word| made.load(word) == 0));

    made.store(0, 7);
    let again = vfs.open_page(&path, OpenMode::CreateNew).unwrap_err();
    assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    let found = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
    assert_eq!(found.load(0), 7);
}

fn a_file_of_another_size_is_refused_as_a_page(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let page = usize::try_from(PAGE_BYTES).unwrap();
    for size in [0, 1, page - 1, page + 1, 2 * page] {
        let path = dir.join(size.to_string());
        write(vfs, &path, &vec![0; size]);
        let refused = vfs.open_page(&path, OpenMode::ReadWrite).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{size}");
        assert_eq!(vfs.entry(&path).unwrap(), Some(Entry::File(size as u64)));
    }
    assert!(vfs.open_page(dir, OpenMode::ReadWrite).is_err());
}

fn each_operation_changes_its_word_only(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (page, _) = page(vfs, dir);
    page.store(1, 5);
    assert_eq!(page.add(1, 2), 5);
    assert_eq!(page.add(1, u64::MAX), 7);
    assert_eq!(page.load(1), 6);
    assert_eq!((page.raise(1, 9), page.load(1)), (6, 9));
    assert_eq!((page.raise(1, 8), page.load(1)), (9, 9));
    assert!(!page.exchange(1, 8, 1));
    assert!(page.exchange(1, 9, u64::MAX));
    assert_eq!(page.load(1), u64::MAX);
    assert_eq!((page.load(0), page.load(2)), (0, 0));
    page.store(PAGE_WORDS - 1, 3);
    assert_eq!(page.load(PAGE_WORDS - 1), 3);
}

fn words_out_of_range_read_as_zero(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (page, path) = page(vfs, dir);
    for word in [PAGE_WORDS, PAGE_WORDS + 1, usize::MAX / 8 + 1, usize::MAX] {
        page.store(word, 1);
        assert_eq!(page.add(word, 2), 0);
        assert_eq!(page.raise(word, 3), 0);
        assert!(!page.exchange(word, 0, 4));
        assert_eq!(page.load(word), 0);
        let own = Arc::clone(&page);
        run_within_limit(move || own.wait(word, 0, HOUR));
        page.wake(word);
    }
    assert!((0..PAGE_WORDS).all(|word| page.load(word) == 0));
    assert_eq!(vfs.entry(&path).unwrap(), Some(Entry::File(PAGE_BYTES)));
}

fn all_mappings_of_a_page_share_its_words(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (one, path) = page(vfs, dir);
    let other = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
    // All bytes of the value are equal, so it reads the same on machines of either byte order.
    one.store(3, 0x0707_0707_0707_0707);
    assert_eq!(other.add(3, 1), 0x0707_0707_0707_0707);
    assert_eq!(one.load(3), 0x0707_0707_0707_0708);
    other.store(3, 0x0909_0909_0909_0909);
    let file = vfs.open(&path, OpenMode::Read).unwrap();
    let mut bytes = [1; 40];
    assert_eq!(read_full(&*file, &mut bytes, 0).unwrap(), 40);
    assert_eq!((&bytes[..24], &bytes[24..32]), (&[0; 24][..], &[9; 8][..]));
    drop((one, other));
    let later = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
    assert_eq!(later.load(3), 0x0909_0909_0909_0909);
}

fn a_page_opened_for_reading_can_be_written(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (one, path) = page(vfs, dir);
    let reader = vfs.open_page(&path, OpenMode::Read).unwrap();
    reader.store(3, 7);
    assert_eq!(one.load(3), 7);
}

fn a_new_page_at_the_same_path_has_its_own_words(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (old, path) = page(vfs, dir);
    old.store(0, 7);
    vfs.remove(&path).unwrap();
    let new = vfs.open_page(&path, OpenMode::CreateNew).unwrap();
    assert_eq!((old.load(0), new.load(0)), (7, 0));
    new.store(0, 8);
    old.store(1, 9);
    assert_eq!((old.load(0), new.load(1)), (7, 0));
}

fn a_page_is_in_place_until_it_is_deleted_or_replaced(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (first, path) = page(vfs, dir);
    assert!(first.is_in_place().unwrap());
    vfs.remove(&path).unwrap();
    assert!(!first.is_in_place().unwrap());
    let second = vfs.open_page(&path, OpenMode::CreateNew).unwrap();
    assert!(second.is_in_place().unwrap() && !first.is_in_place().unwrap());
    vfs.open_page(&dir.join("other"), OpenMode::CreateNew)
        .unwrap();
    vfs.rename(&dir.join("other"), &path).unwrap();
    assert!(!second.is_in_place().unwrap());
}

fn concurrent_additions_are_all_counted(vfs: &Arc<dyn Vfs>, dir: &Path) {
    const THREADS: u64 = 4;
    const EACH: u64 = 10_000;
    let (_made, path) = page(vfs, dir);
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let page = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
            scope.spawn(move || {
                for n in 0..EACH {
                    page.add(0, 1);
                    page.raise(1, n * THREADS + thread);
                    while !page.exchange(2, page.load(2), n) {}
                }
            });
        }
    });
    let page = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
    assert_eq!(page.load(0), THREADS * EACH);
    assert_eq!(page.load(1), THREADS * EACH);
    assert!(page.load(2) < EACH);
}

fn a_wait_for_a_word_that_has_changed_ends_at_once(vfs: &Arc<dyn Vfs>, dir: &Path) {
    let (page, _) = page(vfs, dir);
    page.store(1, 7);
    for seen in [6, 0, u64::MAX] {
        let own = Arc::clone(&page);
        run_within_limit(move || own.wait(1, seen, HOUR));
        let own = Arc::clone(&page);
        run_within_limit(move || own.wait(1, seen, Duration::MAX));
    }
}

/// A single wait may end for no reason, but not every wait.
fn a_wait_lasts_until_its_timeout(vfs: &Arc<dyn Vfs>, dir: &Path) {
    const TIME: Duration = Duration::from_millis(50);
    let (page, _) = page(vfs, dir);
    page.store(1, 7);
    page.store(2, 7 << 32 | 9);
    // Only the lower halves are compared.
    for (word, seen) in [(1, 7), (2, 7 << 32 | 9), (2, 9)] {
        let own = Arc::clone(&page);
        let waits = run_within_limit(move || {
            let begun = Instant::now();
            let mut waits = 0;
            while begun.elapsed() < TIME {
                own.wait(word, seen, TIME);
                waits += 1;
            }
            waits
        });
        assert!(waits < 1000, "{waits} waits in {TIME:?}");
    }
    let own = Arc::clone(&page);
    run_within_limit(move || own.wait(1, 7, Duration::ZERO));
}

fn a_wake_ends_every_wait_for_the_word(vfs: &Arc<dyn Vfs>, dir: &Path) {
    const GO: usize = 5;
    let (page, path) = page(vfs, dir);
    let (done, woken) = mpsc::channel();
    let (ready, threads) = mpsc::channel();
    for timeout in [HOUR, Duration::MAX, HOUR] {
        let page = vfs.open_page(&path, OpenMode::ReadWrite).unwrap();
        let (done, ready) = (done.clone(), ready.clone());
        std::thread::spawn(move || {
            ready.send(thread_number()).unwrap();
            while page.load(GO) == 0 {
                page.wait(GO, 0, timeout);
            }
            done.send(()).unwrap();
        });
    }
    for thread in threads.iter().take(3) {
        wait_until_asleep(thread);
    }
    page.store(GO, 1);
    page.wake(GO);
    for _ in 0..3 {
        woken.recv_timeout(LIMIT).unwrap();
    }
}

#[cfg(target_os = "linux")]
fn thread_number() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

#[cfg(not(target_os = "linux"))]
fn thread_number() -> i32 {
    0
}

/// Wait until a thread sleeps, on systems that show the state of a thread.
fn wait_until_asleep(thread: i32) {
    let path = format!("/proc/self/task/{thread}/stat");
    let is_awake = || std::fs::read_to_string(&path).is_ok_and(|stat| !stat.contains(") S "));
    let begun = Instant::now();
    while is_awake() {
        assert!(begun.elapsed() < LIMIT, "it never sleeps");
        std::thread::yield_now();
    }
}

fn files_of_the_test_directory_can_be_shared(vfs: &Arc<dyn Vfs>, dir: &Path) {
    assert_eq!(vfs.unshareable(dir).unwrap(), None);
}
