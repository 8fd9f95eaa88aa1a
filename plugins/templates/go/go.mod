module my_channel

go 1.19
