module auditship.example/lumberjack

go 1.21

require gopkg.in/natefinch/lumberjack.v2 v2.2.1
