//! Write the first inputs of each target, made from real stores, to a folder with its name:
//! `seeds DIRECTORY`.

use std::fs;
use std::path::{Path, PathBuf};

use eventbraid_engine_fuzz::forge;
use eventbraid_engine_fuzz::stores::{self, FIRST_FRAME};
// The instrumentation of the other targets calls libFuzzer, also here.
use libfuzzer_sys as _;

struct Seeds {
    directory: PathBuf,
    made: usize,
}

impl Seeds {
    fn put(&mut self, target: &str, input: &[u8]) {
        let folder = self.directory.join(target);
        fs::create_dir_all(&folder).expect("a folder for seeds");
        self.made += 1;
        let name = folder.join(format!("seed-{:03}", self.made));
        fs::write(name, input).expect("a seed");
    }
}

fn main() {
    let directory = std::env::args().nth(1).expect("the directory to write to");
    let mut seeds = Seeds {
        directory: directory.into(),
        made: 0,
    };
    frames(&mut seeds);
    records(&mut seeds);
    stores(&mut seeds);
    pages(&mut seeds);
    seeds.put(
        "round_trip",
        &[[0; 28].as_slice(), b"\x02\x03\x01a\x02b-\x00\x04type"].concat(),
    );
}

fn frames(seeds: &mut Seeds) {
    let vfs = stores::small(false);
    for segment in ["/store/log/0000000001.hot", "/store/log/0000000002.hot"] {
        let bytes = vfs.read_file(segment).expect("a segment");
        let (_, end) = stores::end_of_log(&vfs, Path::new(segment));
        let mut at = FIRST_FRAME;
        while at < end {
            let length = forge::u32_at(&bytes[at..], 8) as usize;
            let frame = &bytes[at..at + length];
            seeds.put("frame", &[[1; 9].as_slice(), frame].concat());
            if length < 1024 {
                let prefix = u16::try_from(length).expect("short").to_le_bytes();
                seeds.put("store_frames", &[prefix.as_slice(), frame].concat());
            }
            at += length;
        }
    }
}

fn records(seeds: &mut Seeds) {
    let vfs = stores::small(true);
    let read = |path: &Path| vfs.read_file(path).expect("a file");
    for file in stores::files(&vfs) {
        let (name, bytes) = (file.to_string_lossy(), read(&file));
        let input = |parser: u8, bytes: &[u8]| [&[parser, 1], bytes].concat();
        if name.ends_with(".hot") {
            seeds.put("records", &input(0, &bytes[..64]));
        } else if let Some((_, generation)) = name.split_once("MANIFEST-") {
            seeds.put("records", &input(1, &bytes));
            let mut current = format!("MANIFEST-{generation}\n").into_bytes();
            current.resize(24, b'\n');
            current.extend(generation.parse::<u64>().expect("a number").to_le_bytes());
            seeds.put("records", &input(4, &[current, bytes].concat()));
        } else if name.ends_with("IDENTITY") {
            seeds.put("records", &input(2, &bytes));
        }
    }
    let marker = stores::poisoned().read_file("/store/POISONED");
    seeds.put(
        "records",
        &[&[3, 1], marker.expect("a marker").as_slice()].concat(),
    );
}

/// Changes of the words that are in use between two appends, and an older copy of all words.
fn pages(seeds: &mut Seeds) {
    const APPEND: [[u8; 2]; 2] = [[0, 0], [0, 1]];
    const READ: [[u8; 2]; 2] = [[2, 0], [2, 1]];
    const OPEN_OR_CLOSE: [u8; 2] = [3, 1];
    let [save, restore] = [[4, 0], [4, 1]];
    for word in [
        1, 2, 5, 6, 7, 8, 40, 48, 56, 64, 72, 80, 88, 89, 112, 120, 121_u16,
    ] {
        for how in 0..5 {
            let mut input = [APPEND[0], APPEND[1], READ[0]].concat();
            input.extend([5, 0, how]);
            input.extend(word.to_le_bytes());
            input.extend(1_u64.to_le_bytes());
            input.extend(
                [
                    APPEND[1],
                    APPEND[0],
                    READ[1],
                    OPEN_OR_CLOSE,
                    OPEN_OR_CLOSE,
                    READ[1],
                ]
                .concat(),
            );
            seeds.put("shared_page", &input);
        }
    }
    for session in [0, 1] {
        let steps = [
            APPEND[0],
            save,
            APPEND[session],
            restore,
            APPEND[1 - session],
            READ[session],
            OPEN_OR_CLOSE,
            APPEND[0],
            OPEN_OR_CLOSE,
            READ[1],
        ];
        seeds.put("shared_page", &steps.concat());
    }
}

/// Each file unchanged, truncated, and partly overwritten.
fn stores(seeds: &mut Seeds) {
    for closed in [0, 1] {
        let vfs = stores::small(closed == 0);
        for (i, file) in (0..).zip(stores::files(&vfs)) {
            let bytes = vfs.read_file(&file).expect("a file");
            let beginning = &bytes[..bytes.len().min(256)];
            seeds.put(
                "store_file",
                &[&[closed, i, 0, 0, 0, 0], beginning].concat(),
            );
            seeds.put("store_file", &[closed, i, 2, 0, 20, 0]);
            seeds.put(
                "store_file",
                &[&[closed, i, 1, 3, 40, 0], [1; 8].as_slice()].concat(),
            );
        }
    }
}
