// Package filestore keeps metrics as text files in one directory and serves
// the merge of them. The directory is the only state.
//
// # The idea
//
// The directory is the database; a file is a record; a rename is a commit. A
// [grouping.Key] is the grouping key of a pushed file. A [record.File] is the result
// of reading one file. A [merge.View] is the immutable merge of all files. It is a
// pure function of the directory: it does not depend on history or on the order in
// which files arrived. A [Store] is a directory and its current View.
//
// # The promise
//
// When [Store.Replace], [Store.Update] or [Store.Delete] returns nil, the change is
// on stable storage and in every later View. After an error the group is unchanged,
// unless the error is [ErrInDoubt]: then the change may be lost in a power cut.
//
// # A pushed file
//
//	# promspool:group {job="backup",instance="db1"}
//	# HELP backup_duration_seconds How long it took.
//	# TYPE backup_duration_seconds gauge
//	backup_duration_seconds{instance="db1",job="backup"} 1800
//	# HELP push_failure_time_seconds …
//	# TYPE push_failure_time_seconds gauge
//	push_failure_time_seconds{instance="db1",job="backup"} 0
//	# HELP push_time_seconds …
//	…
//
// The first line has the grouping key; other readers skip it as a comment. It is
// valid only if the file has the name of [grouping.Key.FileName], so a copy of a
// pushed file is a dropped file. The text is canonical: families by name, samples by
// labels, numbers in their shortest form. Reading and writing it again gives the same
// bytes. node_exporter's textfile collector accepts all files: no timestamps, mode
// 0644, a final newline, one TYPE and one HELP line a family.
//
// Lines "# promspool:KEY VALUE" after the first are attributes of the group, such as
// its lifetime. When that has ended, the metrics are kept in such lines as well. The View
// then has only the times of the pushes. So it is a function of the directory and, for
// lifetimes, of the clock.
//
// Files dropped by other programs are never written, renamed or deleted, except that
// they can be archived after their lifetime.
//
// # The merge
//
// Pushed groups are merged before dropped files, each by name. If two files conflict (a
// family with two types, a series with two values, a histogram h and a family
// h_count), that family or series of the later file is dropped and reported by
// [merge.View.Conflicts].
package filestore
