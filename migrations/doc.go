// Package migrations holds the schema as numbered SQL files, embedded in the program, and applies them.
//
// A file is never changed once it was released: what it got wrong, the next one mends. There are no down migrations; the
// way back is the old program, so each file must leave a schema that the version before still runs on.
//
// What does not belong here: queries (package storage) and data that a deployment brings itself.
package migrations
