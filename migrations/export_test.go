package migrations

// For tests with files of their own.
var (
	UpFrom     = up
	StatusFrom = status
	LatestFrom = latest
	DigestFrom = digest
	TableLock  = tableLock
)
