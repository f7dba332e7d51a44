//! File systems on which processes can't share a store: network file systems, and FUSE.

/// Return why processes can't share a store on the file system with this magic number; `None` if
/// they can. On the file systems below, another machine or another kernel may use the same files,
/// and this kernel does not see its locks and its mapped memory.
pub(super) fn why_not(magic: u32) -> Option<String> {
    let name = match magic {
        0x6969 => "NFS",
        0x517b | 0xfe53_4d42 | 0xff53_4d42 => "SMB",
        0x0102_1997 => "9p",
        0x6573_5546 => "FUSE or virtiofs",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x564c => "NCP",
        0x7375_7245 => "Coda",
        0x786f_4256 => "VirtualBox shared folders",
        0xbacb_acbc => "VMware shared folders",
        0x7c7c_6673 => "Parallels shared folders",
        0x1983_0326 => "BeeGFS",
        0xaad7_aaea => "PanFS",
        0x2003_0528 => "OrangeFS",
        0xbeef_dead => "SNFS",
        _ => return None,
    };
    Some(format!(
        "it is on {name}, where another machine may use the same files without the same locks"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_named_and_local_ones_are_not() {
        assert!(why_not(0x6969).unwrap().contains("NFS"));
        assert!(why_not(0x6573_5546).unwrap().contains("FUSE"));
        for (local, magic) in [
            ("ext4", 0xef53),
            ("xfs", 0x5846_5342),
            ("btrfs", 0x9123_683e),
            ("tmpfs", 0x0102_1994),
            ("overlayfs", 0x794c_7630),
            ("zfs", 0x2fc1_2fc1),
        ] {
            assert_eq!(why_not(magic), None, "{local}");
        }
    }
}
