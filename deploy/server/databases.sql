-- Users and permissions have a database of their own beside that of the runs.
CREATE DATABASE auth;
