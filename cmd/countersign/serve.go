package main

import (
	"context"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

type serveCommand struct {
	serverSettings `embed:""`
}

func (c *serveCommand) Run(ctx context.Context) error {
	log, err := newLog(c.LogLevel)
	if err != nil {
		return err
	}
	defer log.Sync()
	a, err := newApp(ctx, &c.serverSettings, log, nil)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// newLog writes JSON lines to standard error.
func newLog(level string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	parsed, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	config.Level = zap.NewAtomicLevelAt(parsed)
	config.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	config.EncoderConfig.TimeKey = "time"
	config.DisableStacktrace = true
	config.DisableCaller = true
	return config.Build()
}
