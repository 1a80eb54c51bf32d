//go:build !linux

package filestore_test

func as(int, int, func()) { panic("needs Linux") }
