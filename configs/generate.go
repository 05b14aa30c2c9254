package configs

//go:generate go run ./internal/schema
