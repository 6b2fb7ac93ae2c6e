package outbound

// IsPublic is what the check of an address asks.
var IsPublic = isPublic

// Hosts is how many hosts have calls that run or wait.
func (c *Client) Hosts() int {
	c.hosts.mu.Lock()
	defer c.hosts.mu.Unlock()
	return len(c.hosts.busy)
}
