-- A database a service: nobody reads another's.
CREATE DATABASE endpoint_api;
CREATE DATABASE capacity_manager;
CREATE DATABASE runtime_deployer;
CREATE DATABASE router;
CREATE DATABASE metering;
CREATE DATABASE autoscaler;
