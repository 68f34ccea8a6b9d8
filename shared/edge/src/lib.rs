//! What every Lambda needs at its rim: settings, telemetry, HTTP in and out, the SQS envelope.
