package storage

// Held tells tests which tables a data export covers, and what becomes of their columns: "opened" or "kept back".
func Held() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, h := range heldAbout {
		all[h.table] = map[string]string{}
		for column := range h.open {
			all[h.table][column] = "opened"
		}
		for _, column := range h.without {
			all[h.table][column] = "kept back"
		}
	}
	return all
}
