//! Tests of the whole simulation through its public interface.

use std::io::IoSlice;

use super::*;
use crate::vfs::{Hold, read_full, write_all_at};

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn create(vfs: &SimVfs, name: &str) -> Arc<dyn VfsFile> {
    vfs.open(path(name), OpenMode::CreateNew).unwrap()
}

fn write(file: &dyn VfsFile, bytes: &[u8]) {
    write_all_at(file, &[IoSlice::new(bytes)], 0).unwrap();
}

fn errno(error: &io::Error) -> Option<i32> {
    error.raw_os_error()
}

const ENOENT: Option<i32> = Some(Errno::NOENT.raw_os_error());

/// Plain and tracked file systems both keep the promises of the trait.
#[test]
fn simulated_files_behave_as_those_of_the_operating_system() {
    for vfs in [SimVfs::memory(), SimVfs::tracked(1)] {
        vfs.create_dir(path("/d")).unwrap();
        assert!(vfs.create_dir(path("/d")).is_err());
        let file = create(&vfs, "/d/a");
        assert!(vfs.open(path("/d/a"), OpenMode::CreateNew).is_err());
        let bufs = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cd")];
        assert_eq!(file.write_vectored_at(&bufs, 3).unwrap(), 4);
        vfs.rename(path("/d/a"), path("/d/b")).unwrap();
        file.sync_data().unwrap();
        vfs.sync_dir(path("/d")).unwrap();

        let reader = vfs.open(path("/d/b"), OpenMode::Read).unwrap();
        let mut buf = [0; 4];
        assert_eq!(read_full(&*reader, &mut buf, 1).unwrap(), 4);
        assert_eq!(&buf, b"\0\0ab");
        assert_eq!(reader.read_at_nowait(&mut buf, 5).unwrap(), Some(2));
        assert_eq!(reader.size().unwrap(), 7);
        assert!(reader.write_vectored_at(&bufs, 0).is_err());
        assert_eq!(vfs.entry(path("/d/b")).unwrap(), Some(Entry::File(7)));
        assert_eq!(vfs.entry(path("/d/a")).unwrap(), None);
        assert_eq!(vfs.list(path("/")).unwrap(), ["d"]);

        vfs.remove(path("/d/b")).unwrap();
        assert_eq!(
            reader.read_at(&mut buf, 3).unwrap(),
            4,
            "an open file outlives its name"
        );
        assert_eq!(errno(&vfs.remove(path("/d/b")).unwrap_err()), ENOENT);
        assert_eq!(
            errno(&vfs.open(path("/x/y"), OpenMode::CreateNew).unwrap_err()),
            ENOENT
        );
    }
}

#[test]
fn a_directory_lock_has_one_holder_at_a_time() {
    let vfs = SimVfs::tracked(1);
    let open = |vfs: &SimVfs| vfs.open_lock(path("/"), false).unwrap();
    let (one, other) = (open(&vfs), open(&vfs.clone()));
    assert!(one.try_lock(Hold::Exclusive).unwrap());
    assert!(!other.try_lock(Hold::Exclusive).unwrap());
    assert!(
        open(&vfs.process_crash())
            .try_lock(Hold::Exclusive)
            .unwrap()
    );
    drop(one);
    assert!(other.try_lock(Hold::Shared).unwrap());
    assert!(open(&vfs).try_lock(Hold::Shared).unwrap());
    assert!(!open(&vfs).try_lock(Hold::Exclusive).unwrap());
}

fn create_page(vfs: &SimVfs, name: &str) -> io::Result<Arc<dyn SharedPage>> {
    vfs.open_page(path(name), OpenMode::CreateNew)
}

#[test]
fn a_page_is_not_created_without_disk_space() {
    let vfs = SimVfs::tracked(1);
    create_page(&vfs, "/one").unwrap();
    assert_eq!(vfs.allocated(), PAGE_WORDS as u64 * 8);
    vfs.set_capacity(Some(2 * vfs.allocated() - inode::BLOCK));
    let full = create_page(&vfs, "/two").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(vfs.files(), [path("/one")]);
    vfs.set_capacity(None);
    create_page(&vfs, "/two").unwrap();
}

#[test]
fn a_page_is_not_created_if_its_zeros_cannot_be_written() {
    let vfs = SimVfs::tracked(1);
    vfs.fail(Fault::once(Call::Write, 1, Failure::EIO));
    let failed = create_page(&vfs, "/page").unwrap_err();
    assert_eq!(errno(&failed), Some(Errno::IO.raw_os_error()));
    assert!(vfs.files().is_empty());
    vfs.fail(Fault::once(Call::Write, 1, Failure::Short));
    create_page(&vfs, "/page").unwrap();
}

#[test]
fn a_process_crash_during_the_creation_of_a_page_leaves_an_invalid_page() {
    let vfs = SimVfs::tracked(1);
    vfs.crash_at(2);
    assert!(create_page(&vfs, "/page").is_err() && vfs.crashed());
    let after = vfs.process_crash();
    assert_eq!(after.files(), [path("/page")]);
    let refused = after.open_page(path("/page"), OpenMode::ReadWrite);
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_process_crash_keeps_written_bytes_and_syncs_nothing() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    vfs.sync_dir(path("/")).unwrap();
    write(&*file, b"bytes");
    let after = vfs.process_crash();
    write(&*file, b"later");
    assert_eq!(after.read_file(path("/f")).unwrap(), b"bytes");
    assert_eq!(
        after
            .power_cut(Persist::Nothing)
            .read_file(path("/f"))
            .unwrap(),
        b""
    );
    assert_eq!(
        after
            .power_cut(Persist::Everything)
            .read_file(path("/f"))
            .unwrap(),
        b"bytes"
    );
}

#[test]
fn a_process_crash_keeps_the_words_of_a_page_and_releases_locks() {
    for vfs in [SimVfs::memory(), SimVfs::tracked(1)] {
        let page = create_page(&vfs, "/page").unwrap();
        page.store(3, 7);
        let lock = vfs.open_lock(path("/lock"), true).unwrap();
        assert!(lock.try_lock(Hold::Exclusive).unwrap());

        let after = vfs.process_crash();
        page.store(3, 8);
        let found = after.open_page(path("/page"), OpenMode::ReadWrite).unwrap();
        assert_eq!(found.load(3), 7);
        found.store(3, 9);
        assert_eq!(page.load(3), 8);
        let freed = after.open_lock(path("/lock"), false).unwrap();
        assert!(freed.try_lock(Hold::Exclusive).unwrap());
        assert!(
            !vfs.open_lock(path("/lock"), false)
                .unwrap()
                .try_lock(Hold::Shared)
                .unwrap()
        );
    }
}

#[test]
fn a_killed_process_changes_no_word() {
    let vfs = SimVfs::tracked(1);
    let page = create_page(&vfs, "/page").unwrap();
    page.store(3, 7);
    vfs.crash_at(vfs.steps() + 1);
    vfs.at("publish");
    page.store(3, 8);
    assert_eq!((page.add(3, 1), page.raise(3, 9)), (7, 7));
    page.exchange(3, 7, 10);
    let after = vfs.process_crash();
    let found = after.open_page(path("/page"), OpenMode::Read).unwrap();
    assert_eq!(found.load(3), 7);
}

/// Return some words that a power cut leaves in a page whose name and zeros are durable.
fn words_after(persist: Persist) -> [u64; 3] {
    let vfs = SimVfs::tracked(1);
    let page = create_page(&vfs, "/page").unwrap();
    let file = vfs.open(path("/page"), OpenMode::ReadWrite).unwrap();
    file.sync_all().unwrap();
    vfs.sync_dir(path("/")).unwrap();
    let words = [0, 63, PAGE_WORDS - 1];
    for word in words {
        page.store(word, u64::MAX);
    }
    assert_eq!(vfs.unsynced_units(), 0);
    let after = vfs.power_cut(persist);
    let found = after.open_page(path("/page"), OpenMode::Read).unwrap();
    words.map(|word| found.load(word))
}

#[test]
fn a_power_cut_may_leave_any_words_in_a_page() {
    assert_eq!(words_after(Persist::Nothing), [0; 3]);
    assert_eq!(words_after(Persist::Mask(u64::MAX)), [0; 3]);
    assert_eq!(words_after(Persist::Everything), [u64::MAX; 3]);
    let outcomes: Vec<_> = (0..500)
        .map(|seed| words_after(Persist::Seeded(seed)))
        .collect();
    let seen = |what: fn(&[u64; 3]) -> bool| outcomes.iter().any(what);
    assert!(seen(|words| *words == [0; 3]), "nothing kept");
    assert!(seen(|words| *words == [u64::MAX; 3]), "all kept");
    assert!(seen(|words| *words == [0, 0, u64::MAX]), "a later one kept");
    assert!(seen(|words| *words == [u64::MAX, 0, 0]), "torn");
    assert!(seen(|words| ![0, u64::MAX].contains(&words[2])), "garbage");
}

#[test]
fn a_page_without_a_durable_name_may_be_lost_or_invalid() {
    let vfs = SimVfs::tracked(1);
    create_page(&vfs, "/page").unwrap().store(0, 7);
    let open = |vfs: &SimVfs| vfs.open_page(path("/page"), OpenMode::ReadWrite);
    let kind = |persist| open(&vfs.power_cut(persist)).map_err(|e| e.kind());
    assert_eq!(kind(Persist::Nothing).unwrap_err(), io::ErrorKind::NotFound);
    // The size of the page's file is the first unit, its name the second.
    assert_eq!(
        kind(Persist::Mask(0b10)).unwrap_err(),
        io::ErrorKind::InvalidData
    );
    assert_eq!(kind(Persist::Mask(0b11)).unwrap().load(0), 0);
}

#[test]
fn a_synced_file_without_a_durable_name_is_lost() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    write(&*file, b"bytes");
    file.sync_all().unwrap();
    assert!(vfs.power_cut(Persist::Nothing).files().is_empty());
}

#[test]
fn a_crash_happens_at_its_step_and_fails_every_later_call() {
    let vfs = SimVfs::tracked(1);
    vfs.crash_at(3);
    let file = create(&vfs, "/f");
    vfs.at("publish");
    let error = file
        .write_vectored_at(&[IoSlice::new(&[7; 100])], 0)
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (io::ErrorKind::Other, "simulated crash")
    );
    assert!(vfs.crashed());
    assert!(file.read_at(&mut [0], 0).is_err() && file.sync_data().is_err());
    assert!(vfs.entry(path("/f")).is_err() && vfs.open_lock(path("/"), false).is_err());
    assert_eq!(
        vfs.trace(),
        ["1 Create f", "2 at publish", "3 Write f @0 +100 crashes"]
    );

    let after = vfs.process_crash();
    let left = after.read_file(path("/f")).unwrap();
    assert!(
        left.len() <= 100 && left.iter().all(|byte| *byte == 7),
        "a prefix of the write"
    );
    assert!(!after.crashed());
    assert_eq!(after.steps(), 0);
}

#[test]
fn a_crash_may_leave_any_part_of_its_write() {
    let left = |seed| {
        let vfs = SimVfs::tracked(seed);
        vfs.crash_at(2);
        let file = create(&vfs, "/f");
        assert!(file.write_vectored_at(&[IoSlice::new(&[7; 3])], 0).is_err());
        vfs.read_file(path("/f")).unwrap().len()
    };
    let lengths: std::collections::BTreeSet<_> = (0..100).map(left).collect();
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn the_same_seed_gives_the_same_results() {
    let story = |seed| {
        let vfs = SimVfs::tracked(seed);
        let mut buf = [0; 20];
        vfs.random(&mut buf).unwrap();
        write(&*create(&vfs, "/f"), &[1; 3000]);
        vfs.sync_dir(path("/")).unwrap();
        let after = vfs.power_cut(Persist::Seeded(seed));
        (buf, vfs.now_micros(), after.read_file(path("/f")).unwrap())
    };
    assert_eq!(story(4), story(4));
    assert_ne!(story(4).0, story(5).0);
}

#[test]
fn a_fault_applies_to_its_call_and_path_only() {
    let vfs = SimVfs::tracked(1);
    vfs.create_dir(path("/log")).unwrap();
    let (log, other) = (create(&vfs, "/log/1"), create(&vfs, "/other"));
    vfs.fail_on("log/", Fault::once(Call::Write, 2, Failure::ENOSPC));
    let bytes = [IoSlice::new(b"x")];
    other.write_vectored_at(&bytes, 0).unwrap();
    log.write_vectored_at(&bytes, 0).unwrap();
    let error = log.write_vectored_at(&bytes, 1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(log.size().unwrap(), 1);
    log.write_vectored_at(&bytes, 1).unwrap();
}

#[test]
fn a_fault_lasts_until_healed() {
    let vfs = SimVfs::tracked(1);
    vfs.fail(Fault::forever(
        Call::List,
        1,
        io::ErrorKind::PermissionDenied.into(),
    ));
    for _ in 0..2 {
        let error = vfs.list(path("/")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
    vfs.heal();
    vfs.list(path("/")).unwrap();
}

#[test]
fn short_reads_and_writes_transfer_a_part_of_their_bytes() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    vfs.fail(Fault::forever(Call::Write, 1, Failure::Short));
    vfs.fail(Fault::forever(Call::Read, 1, Failure::Short));
    vfs.fail(Fault::once(Call::Write, 2, Failure::EINTR));
    assert!(
        file.write_vectored_at(&[IoSlice::new(b"hello world")], 0)
            .unwrap()
            < 11
    );
    write(&*file, b"hello world");
    let mut buf = [0; 11];
    assert!(file.read_at(&mut buf, 0).unwrap() < 11);
    assert_eq!(read_full(&*file, &mut buf, 0).unwrap(), 11);
    assert_eq!(&buf, b"hello world");
}

#[test]
fn a_failed_sync_may_lose_the_data_for_good() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    vfs.sync_dir(path("/")).unwrap();
    write(&*file, b"bytes");
    vfs.fail(Fault::once(Call::SyncData, 1, Failure::EIO).losing());
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(vfs.read_file(path("/f")).unwrap(), b"bytes");
    let after = vfs.power_cut(Persist::Everything);
    assert_eq!(after.read_file(path("/f")).unwrap(), [0; 5]);
}

#[test]
fn a_failed_sync_of_a_directory_may_lose_its_names_for_good() {
    let vfs = SimVfs::tracked(1);
    create(&vfs, "/f");
    vfs.fail(Fault::once(Call::SyncDir, 1, Failure::EIO).losing());
    assert!(vfs.sync_dir(path("/")).is_err());
    vfs.sync_dir(path("/")).unwrap();
    assert_eq!(vfs.files(), [path("/f")]);
    assert!(vfs.power_cut(Persist::Everything).files().is_empty());
}

#[test]
fn a_sync_after_a_failed_sync_without_loss_makes_the_bytes_durable() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    write(&*file, b"bytes");
    vfs.fail(Fault::once(Call::SyncData, 1, Failure::EINTR));
    vfs.fail(Fault::once(Call::SyncDir, 1, Failure::EIO));
    assert!(file.sync_data().is_err() && vfs.sync_dir(path("/")).is_err());
    assert!(vfs.power_cut(Persist::Nothing).files().is_empty());
    file.sync_data().unwrap();
    vfs.sync_dir(path("/")).unwrap();
    assert_eq!(
        vfs.power_cut(Persist::Nothing)
            .read_file(path("/f"))
            .unwrap(),
        b"bytes"
    );
}

#[test]
fn changes_from_outside_affect_memory_and_disk() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    write(&*file, b"bytes");
    file.sync_all().unwrap();
    vfs.sync_dir(path("/")).unwrap();
    vfs.corrupt(path("/f"), 1, 0x20).unwrap();
    vfs.truncate_outside(path("/f"), 3).unwrap();
    assert_eq!(vfs.read_file(path("/f")).unwrap(), b"bYt");
    assert_eq!(
        vfs.power_cut(Persist::Nothing)
            .read_file(path("/f"))
            .unwrap(),
        b"bYt"
    );
    file.write_vectored_at(&[IoSlice::new(b"not synced")], 0)
        .unwrap();
    vfs.corrupt(path("/f"), 0, 0x20).unwrap();
    let after = vfs.power_cut(Persist::Everything);
    assert_eq!(after.read_file(path("/f")).unwrap(), b"Not synced");
    vfs.write_outside(path("/f"), b"an old copy").unwrap();
    assert_eq!(
        vfs.power_cut(Persist::Nothing)
            .read_file(path("/f"))
            .unwrap(),
        b"an old copy"
    );
    assert!(vfs.corrupt(path("/f"), 11, 1).is_err());
}

#[test]
fn no_file_exceeds_the_maximum_size() {
    let file = create(&SimVfs::memory(), "/f");
    assert!(
        file.write_vectored_at(&[IoSlice::new(b"x")], u64::MAX)
            .is_err()
    );
}

#[test]
fn a_nonblocking_read_of_an_uncached_file_returns_none() {
    let vfs = SimVfs::tracked(1);
    let file = create(&vfs, "/f");
    vfs.set_cold(true);
    assert_eq!(file.read_at_nowait(&mut [0], 0).unwrap(), None);
    assert_eq!(file.read_at(&mut [0], 0).unwrap(), 0);
}
