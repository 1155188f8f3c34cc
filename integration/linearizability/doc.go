// Package linearizability judges what concurrent clients saw of single objects while nodes were killed, stopped and continued: each
// object key is to behave as one register whose operations happen at one instant each between request and answer (Herlihy and Wing,
// "Linearizability", 1990). The judge is porcupine. A listing is a read of each key's presence and ETag by itself.
package linearizability
