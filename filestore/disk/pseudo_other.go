//go:build !linux

package disk

// isPseudo reports whether the kernel makes the content of the file when it is
// read. Other systems are not asked.
func isPseudo(int) bool { return false }
