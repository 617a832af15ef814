"""The only place that imports FedML. Importing this package itself does not."""
