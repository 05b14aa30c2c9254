package peers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// ErrNoNginx says that nginx is not installed.
var ErrNoNginx = errors.New("nginx is not installed (Debian: apt-get install nginx-light)")

// nginxConfig has one worker, kept connections on both sides, no access log, bodies in memory. Buffering is off
// because answers are streams.
const nginxConfig = `daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log warn;
events { worker_connections 8192; use epoll; multi_accept on; }
http {
  access_log off;
  tcp_nodelay on;
  tcp_nopush on;
  sendfile on;
  keepalive_timeout 90s;
  keepalive_requests 1000000000;
  client_max_body_size 16m;
  client_body_buffer_size 256k;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream model { server %[3]s; keepalive 4096; keepalive_requests 1000000000; keepalive_timeout 90s; }
  server {
    listen %[2]s reuseport;
    location / {
      proxy_pass http://model;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }
  }
}
`

// Nginx writes a configuration into dir and gives the command that serves with it.
func Nginx(dir, listen, model string) ([]string, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		for _, candidate := range []string{"/usr/sbin/nginx", "/usr/local/sbin/nginx"} {
			if _, statErr := os.Stat(candidate); statErr == nil {
				program, err = candidate, nil
				break
			}
		}
	}
	if err != nil {
		return nil, ErrNoNginx
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make nginx's folder: %w", err)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, nginxConfig, dir, listen, model), 0o644); err != nil {
		return nil, fmt.Errorf("write nginx's configuration: %w", err)
	}
	return []string{program, "-c", file, "-e", filepath.Join(dir, "error.log")}, nil
}
