// The counters of Tidegate, one row each. No include guard: included by counters.h and by whoever
// walks the table.
//
//   TG_COUNTER(id, name, kind, help)
//
// name   what `status` and the metrics call it; stable; at most 47 octets
// kind   kTotal only grows and survives the worker; kGauge is what is the case now and ends with
// the worker
//
// The order is the layout of the shared memory. A supervisor that finds another layout in memory
// that it adopts makes new memory and carries the totals over by name
// (supervisor/counters_owner.h).

// Workers.
TG_COUNTER(kRequests, "requests_total", kTotal, "exchanges that ended")
TG_COUNTER(kResponses1xx, "responses_1xx", kTotal, "interim responses sent")
TG_COUNTER(kResponses2xx, "responses_2xx", kTotal, "responses sent with a status of 200 to 299")
TG_COUNTER(kResponses3xx, "responses_3xx", kTotal, "responses sent with a status of 300 to 399")
TG_COUNTER(kResponses4xx, "responses_4xx", kTotal, "responses sent with a status of 400 to 499")
TG_COUNTER(kResponses5xx, "responses_5xx", kTotal, "responses sent with a status of 500 to 599")
TG_COUNTER(kConnectionsAccepted, "connections_accepted", kTotal, "downstream connections accepted")
TG_COUNTER(kConnectionsRefused, "connections_refused", kTotal,
           "downstream connections closed because their address had too many")
TG_COUNTER(kConnectionsActive, "connections_active", kGauge, "downstream connections that are open")
TG_COUNTER(kTlsHandshakes, "tls_handshakes", kTotal, "TLS handshakes with clients that ended well")
TG_COUNTER(kTlsResumed, "tls_resumed", kTotal, "those of them that resumed an earlier session")
TG_COUNTER(kTlsHandshakesFailed, "tls_handshakes_failed", kTotal,
           "TLS handshakes with clients that failed or took too long")
TG_COUNTER(kTlsHandshakesEvicted, "tls_handshakes_evicted", kTotal,
           "those of them that were ended because limits.max_handshakes were under way")
TG_COUNTER(kH2Connections, "h2_connections", kTotal, "downstream connections that spoke HTTP/2")
TG_COUNTER(kH2Streams, "h2_streams", kTotal, "streams that clients opened on them")
TG_COUNTER(kH2StreamsReset, "h2_streams_reset", kTotal, "streams that clients reset")
TG_COUNTER(kBytesIn, "bytes_in", kTotal, "octets read from downstream")
TG_COUNTER(kBytesOut, "bytes_out", kTotal, "octets written downstream")
TG_COUNTER(kTunnelsActive, "tunnels_active", kGauge, "tunnels that are open")
TG_COUNTER(kLogLinesDropped, "log_lines_dropped", kTotal,
           "access log lines that did not reach the file")
TG_COUNTER(kUpstreamConnects, "upstream_connects", kTotal, "connections opened to endpoints")
TG_COUNTER(kUpstreamConnections, "upstream_connections", kGauge,
           "connections to endpoints that are open, in use or idle")
TG_COUNTER(kUpstreamTlsHandshakes, "upstream_tls_handshakes", kTotal,
           "TLS handshakes with endpoints that ended well")
TG_COUNTER(kUpstreamTlsResumed, "upstream_tls_resumed", kTotal,
           "those of them that resumed an earlier session")
TG_COUNTER(kUpstreamTlsHandshakesFailed, "upstream_tls_handshakes_failed", kTotal,
           "TLS handshakes with endpoints that failed or took too long")
TG_COUNTER(kUpstreamReused, "upstream_reused", kTotal, "attempts on a pooled connection")
TG_COUNTER(kRetries, "retries", kTotal, "attempts after the first")
TG_COUNTER(kHandedOverIdle, "handed_over_idle", kTotal,
           "idle downstream connections that moved to a newer generation")
TG_COUNTER(kHandedOverTunnels, "handed_over_tunnels", kTotal,
           "tunnels that moved to a newer generation")
TG_COUNTER(kHandedOverUpstream, "handed_over_upstream", kTotal,
           "pooled connections to endpoints that moved to a newer generation")
TG_COUNTER(kDeclinedRecord, "hand_over_declined_record", kTotal,
           "connections that the newer generation did not know how to take")
TG_COUNTER(kDeclinedListener, "hand_over_declined_listener", kTotal,
           "those that it has no such listener for")
TG_COUNTER(kDeclinedRoute, "hand_over_declined_route", kTotal, "tunnels of a route that is gone")
TG_COUNTER(kDeclinedUpstream, "hand_over_declined_upstream", kTotal,
           "those whose endpoint is gone or has no room")
TG_COUNTER(kDeclinedLimits, "hand_over_declined_limits", kTotal,
           "those that would have been over limits.max_connections or max_connections_per_ip")
TG_COUNTER(kDeclinedDescriptors, "hand_over_declined_descriptors", kTotal,
           "those that it had no descriptors for")
TG_COUNTER(kDeclinedClosed, "hand_over_declined_closed", kTotal, "those whose client had left")
TG_COUNTER(kDeclinedDraining, "hand_over_declined_draining", kTotal,
           "those that came when it was itself being replaced")

// The supervisor.
TG_COUNTER(kReloadsOk, "reloads_ok", kTotal, "reloads that put a configuration in force")
TG_COUNTER(kReloadsFailed, "reloads_failed", kTotal, "reloads that changed nothing")
TG_COUNTER(kUpgradesOk, "upgrades_ok", kTotal, "upgrades that ended well")
TG_COUNTER(kUpgradesFailed, "upgrades_failed", kTotal, "upgrades refused before commit")
TG_COUNTER(kUpgradesRolledBack, "upgrades_rolled_back", kTotal, "upgrades undone within probation")
TG_COUNTER(kWorkerRestarts, "worker_restarts", kTotal, "workers started again after a crash")
TG_COUNTER(kDrainForced, "drain_forced", kTotal, "workers killed because they outlived their drain")
