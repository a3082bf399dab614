-- wrk sends one request at a time; this makes each of its requests as many as it is told.
init = function(arguments)
   local depth = assert(tonumber(arguments[1]), "how many requests at a time?")
   requests = string.rep(wrk.format(), depth)
end

request = function()
   return requests
end
