package watcher

import (
	"os"

	"golang.org/x/sys/unix"
)

// backend names what reports changes here.
const backend = "inotify"

// partialTypes are the file systems that can change without a report: from
// another machine, from behind the mount, or in a layer below.
var partialTypes = map[uint32]string{
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.SMB_SUPER_MAGIC:       "smb",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.NCP_SUPER_MAGIC:       "ncp",
	unix.AFS_SUPER_MAGIC:       "afs",
	unix.AFS_FS_MAGIC:          "afs",
	unix.CODA_SUPER_MAGIC:      "coda",
	unix.CEPH_SUPER_MAGIC:      "ceph",
	unix.OCFS2_SUPER_MAGIC:     "ocfs2",
	unix.V9FS_MAGIC:            "9p",
	unix.FUSE_SUPER_MAGIC:      "fuse", // virtiofs too
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.ECRYPTFS_SUPER_MAGIC:  "ecryptfs",
	// Those that x/sys/unix has no name for.
	0x01161970: "gfs2",
	0x0bd00bd0: "lustre",
	0x19830326: "beegfs",
	0x47504653: "gpfs",
	0x61756673: "aufs",
	0x786f4256: "vboxsf",
	0xbacbacbc: "vmhgfs",
}

// partialFS returns the type of the file system that dir is on if it is known
// not to report every change, else the empty string.
func partialFS(dir *os.File) string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &st); err != nil {
		return ""
	}
	// The field's type differs between architectures, its lower half does not.
	return partialTypes[uint32(st.Type)]
}
