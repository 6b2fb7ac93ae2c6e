package main

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// healthCommand is a container's health check: the image has no shell and no curl.
type healthCommand struct {
	Address string `help:"The server's --health-listen address." env:"COUNTERSIGN_HEALTH_LISTEN" default:"127.0.0.1:8081"`
}

func (c *healthCommand) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Address+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s", response.Status)
	}
	return nil
}
