package main

import (
	"context"
	"os"
	"runtime/debug"

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
	collectLessOften()
	a, err := newApp(ctx, &c.serverSettings, log, nil)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// collectLessOften lets the heap grow to five times what is alive before it is collected: the server keeps little, so that
// costs some ten megabytes and saves a tenth of its time. GOGC, if set, wins.
func collectLessOften() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
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
