// Package filestore keeps metrics as text files in one directory and serves
// the merge of them. The directory is the only state.
//
// # The idea
//
// The directory is the database; a file is a record; a rename is a commit. A
// [Group] names what was pushed under one grouping key and knows its file
// name. A [File] is what one file in the directory came to when it was read.
// A [View] is the merge of all files, immutable, and a pure function of the
// directory: nothing in it depends on history or on the order in which files
// arrived. A [Store] is a directory and its current View.
//
// # The promise
//
// When [Store.Replace], [Store.Update] or [Store.Delete] returns nil, the
// change is on stable storage and in every later View. On an error the group
// is as it was, or it is as asked; where that is not known the error says so
// (see [ErrInDoubt]).
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
// The first line is the authority for the grouping key; other readers skip it
// as a comment. It counts only if the file has the name that [Group.FileName]
// gives, so a copy of a pushed file is a dropped file like any other. The text
// is canonical: families by name, samples by labels, numbers in their shortest
// form; reading it and writing it again gives the same bytes. Whatever is
// written here, node_exporter's textfile collector accepts: no timestamps,
// mode 0644, a final newline, one TYPE and one HELP a family.
//
// Lines "# promspool:KEY VALUE" after the first are what is known of the group
// beside its metrics, such as its lifetime. Once that has ended the metrics stand
// in such lines as well, where no reader serves them, and the times stay: the View
// is a function of the directory and, for lifetimes, of the clock.
//
// Files dropped by others are never written to, renamed or removed.
//
// # The merge
//
// Files take part in the order: pushed groups before dropped files, then by
// name. Where two contradict each other (a family with two types, a series
// twice with different values, a histogram h beside a family h_count) the
// later one gives way, in that family or that series only, and is named in
// [View.Conflicts].
package filestore
