package authz

import "github.com/countersign/countersign/reach"

// CheckChannels tells whether a server can have these channels.
func (s *Server) CheckChannels(channels ...reach.Channel) error {
	_, err := s.channels(channels)
	return err
}
