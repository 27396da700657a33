"""A judge behind HTTP: connections, requests and answers as data, and the thread that draws."""
